//! Answers from L1, kept in the form that the platform sends them in.
//!
//! Knows what makes two answers alike. Does not know when one holds: that is
//! [`Ready`]'s to say.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use worker::js_sys::JsString;
use worker::wasm_bindgen::JsValue;
use worker::web_sys;

use super::{Header, js, lines, written};
use crate::limits::{READY_BODY_BYTES_MAX, READY_BYTES_MAX};
use crate::route::{Ready, Response};

/// What one weighs beyond its bytes, roughly: its headers here and there.
const FORM_OVERHEAD_BYTES: usize = 2048;

thread_local! {
    static SENT: RefCell<Sent> = RefCell::default();
}

/// Whether the answer of that number still holds is asked of this.
pub fn ready(number: u32) -> Option<Rc<Ready>> {
    SENT.with(|sent| sent.borrow().ready(number))
}

/// Sends an answer to `opening`, in the place of the one of that number if there is one,
/// and keeps it if it may be given again.
pub fn send(opening: &JsString, number: u32, mut answer: Response) -> web_sys::Response {
    match answer.ready.take() {
        Some(ready) if answer.body.len() <= READY_BODY_BYTES_MAX => {
            SENT.with(|sent| sent.borrow_mut().send(opening, number, ready, answer))
        }
        _ => written(answer),
    }
}

/// By number. JavaScript has them too, by what they answer: copying a body out of Wasm
/// and making headers is most of what such an answer costs, and of most nothing is new.
#[derive(Default)]
struct Sent {
    forms: Vec<Form>,
    bytes: usize,
}

struct Form {
    ready: Rc<Ready>,
    /// What `kept` was made of.
    body: Bytes,
    headers: Vec<Header>,
    kept: JsValue,
    bytes: usize,
}

impl Sent {
    fn ready(&self, number: u32) -> Option<Rc<Ready>> {
        let form = self.forms.get(usize::try_from(number).ok()?)?;
        Some(Rc::clone(&form.ready))
    }

    fn send(
        &mut self,
        opening: &JsString,
        number: u32,
        ready: Rc<Ready>,
        answer: Response,
    ) -> web_sys::Response {
        let Response { headers, body, .. } = answer;
        let place = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(form) = self.forms.get_mut(place) {
            if form.is_like(&headers, &body) {
                let both = headers.iter().zip(&form.headers);
                let changed = both.filter(|(new, old)| new != old);
                js::change(&form.kept, &lines(changed.map(|(new, _)| new)));
                (form.ready, form.headers) = (ready, headers);
                return js::again(&form.kept);
            }
            self.bytes -= form.bytes;
        }
        let bytes = FORM_OVERHEAD_BYTES + opening.length() as usize + body.len();
        if self.bytes + bytes > READY_BYTES_MAX {
            *self = Self::default();
            js::forget();
        }
        self.bytes += bytes;
        let place = place.min(self.forms.len());
        let kept = js::keep(opening, place, &body);
        js::change(&kept, &lines(&headers));
        let response = js::again(&kept);
        let form = Form {
            ready,
            body,
            headers,
            kept,
            bytes,
        };
        match self.forms.get_mut(place) {
            Some(old) => *old = form,
            None => self.forms.push(form),
        }
        response
    }
}

impl Form {
    /// The very same body, and the same names of headers.
    fn is_like(&self, headers: &[Header], body: &Bytes) -> bool {
        let names =
            |headers: &[Header]| -> Vec<_> { headers.iter().map(|(name, _)| *name).collect() };
        let is_same = self.body.as_ptr() == body.as_ptr() && self.body.len() == body.len();
        is_same && names(&self.headers) == names(headers)
    }
}
