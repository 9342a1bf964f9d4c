//! A platform's socket as a byte stream, in as few steps between Wasm and JavaScript
//! as it takes: one promise for a read, none for a write, and none to open it: what is
//! written before that waits, and that it failed is learnt by reading.
//!
//! Knows no protocol and no deadline.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{self, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use worker::js_sys::Uint8Array;
use worker::wasm_bindgen::JsValue;
use worker::wasm_bindgen_futures::JsFuture;

use crate::host::{Address, Tls};

/// A connection that is closed when it is dropped. The platform alone would keep it
/// until its request has ended with all that it deferred, or its Durable Object has.
pub(super) struct Stream {
    pipe: js::Pipe,
    reading: Reading,
    /// Something was read.
    is_open: bool,
}

enum Reading {
    Nothing,
    Awaited(JsFuture),
    /// It failed; with the reason.
    Failed(JsFuture),
    /// What was read and not taken yet, and how much of it was taken.
    Arrived(Vec<u8>, usize),
}

impl Stream {
    pub fn connect(address: &Address, tls: Tls) -> io::Result<Self> {
        let transport = match tls {
            Tls::Off => "off",
            Tls::AtOnce => "on",
            Tls::Later { .. } => "starttls",
        };
        Ok(Self {
            pipe: js::open(&address.host, address.port, transport).map_err(broken)?,
            reading: Reading::Nothing,
            is_open: false,
        })
    }

    pub fn start_tls(mut self) -> io::Result<Self> {
        // The plain one is no more, and nothing that could be closed.
        self.pipe = js::start_tls(&self.pipe).map_err(broken)?;
        self.is_open = false;
        Ok(self)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        js::close(&self.pipe);
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let stream = &mut *self;
            stream.reading = match &mut stream.reading {
                Reading::Nothing => Reading::Awaited(js::read(&stream.pipe).into()),
                Reading::Awaited(awaited) => {
                    let read = ready!(Pin::new(awaited).poll(context));
                    // What has come does not come again.
                    stream.reading = Reading::Nothing;
                    match read {
                        Ok(read) => match js::arrived(&read) {
                            Some(bytes) => {
                                stream.is_open = true;
                                Reading::Arrived(bytes.to_vec(), 0)
                            }
                            // The end.
                            None => return Poll::Ready(Ok(())),
                        },
                        Err(error) if stream.is_open => return Poll::Ready(Err(broken(error))),
                        Err(error) => Reading::Failed(js::reason(&stream.pipe, error).into()),
                    }
                }
                Reading::Failed(reason) => {
                    let reason = ready!(Pin::new(reason).poll(context));
                    stream.reading = Reading::Nothing;
                    return Poll::Ready(Err(broken(reason.unwrap_or_else(|error| error))));
                }
                Reading::Arrived(bytes, taken) => {
                    let rest = bytes.get(*taken..).unwrap_or_default();
                    let (now, later) = rest.split_at(rest.len().min(buffer.remaining()));
                    buffer.put_slice(now);
                    *taken += now.len();
                    if later.is_empty() {
                        stream.reading = Reading::Nothing;
                    }
                    return Poll::Ready(Ok(()));
                }
            };
        }
    }
}

/// What is written is the platform's to send, in order, also before a close. That it
/// could not is learnt by reading.
impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        js::write(&self.pipe, &Uint8Array::from(bytes));
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        js::close(&self.pipe);
        Poll::Ready(Ok(()))
    }
}

fn broken(error: JsValue) -> io::Error {
    io::Error::other(String::from(js::text(&error)))
}

mod js {
    use worker::js_sys::{JsString, Promise, Uint8Array};
    use worker::wasm_bindgen::{self, JsValue, prelude::wasm_bindgen};

    #[wasm_bindgen(inline_js = r#"
        import { connect } from "cloudflare:sockets";

        // What goes wrong with a write or a close is learnt by reading, if at all.
        async function ignoring(work) {
            try {
                await work();
            } catch {}
        }

        function piped(socket) {
            return { socket, reader: socket.readable.getReader(), writer: socket.writable.getWriter() };
        }

        export function open(hostname, port, secureTransport) {
            return piped(connect({ hostname, port }, { secureTransport }));
        }

        export function startTls({ socket, reader, writer }) {
            reader.releaseLock();
            writer.releaseLock();
            return piped(socket.startTls());
        }

        // A stream does not say what was wrong with its socket.
        export const reason = ({ socket }, error) => socket.opened.then(() => error, (why) => why);
        export const read = ({ reader }) => reader.read();
        export const arrived = ({ value }) => value;
        export const write = ({ writer }, bytes) => void ignoring(() => writer.write(bytes));
        export const close = ({ socket }) => void ignoring(() => socket.close());
        export const text = (error) => String(error);
    "#)]
    extern "C" {
        /// A socket with its reader and its writer.
        pub type Pipe;
        #[wasm_bindgen(catch)]
        pub fn open(hostname: &str, port: u16, transport: &str) -> Result<Pipe, JsValue>;
        /// After it, the pipe that it is given is of no use.
        #[wasm_bindgen(catch, js_name = startTls)]
        pub fn start_tls(pipe: &Pipe) -> Result<Pipe, JsValue>;
        /// Why nothing can be read, where that is the error.
        pub fn reason(pipe: &Pipe, error: JsValue) -> Promise;
        pub fn read(pipe: &Pipe) -> Promise;
        /// The bytes of what [`read`] gave, or none at the end.
        pub fn arrived(read: &JsValue) -> Option<Uint8Array>;
        /// Takes the bytes.
        pub fn write(pipe: &Pipe, bytes: &Uint8Array);
        /// After all that was written.
        pub fn close(pipe: &Pipe);
        pub fn text(error: &JsValue) -> JsString;
    }
}
