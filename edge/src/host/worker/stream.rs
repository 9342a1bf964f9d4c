//! A platform's socket as a byte stream, in as few steps between Wasm and JavaScript
//! as it takes: one promise for a read and none for a write.
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
}

enum Reading {
    Nothing,
    Awaited(JsFuture),
    /// What was read and not taken yet, and how much of it was taken.
    Arrived(Vec<u8>, usize),
}

impl Stream {
    pub async fn connect(address: &Address, tls: Tls) -> io::Result<Self> {
        let transport = match tls {
            Tls::Off => "off",
            Tls::AtOnce => "on",
            Tls::Later { .. } => "starttls",
        };
        let stream = Self {
            pipe: js::open(&address.host, address.port, transport).map_err(broken)?,
            reading: Reading::Nothing,
        };
        stream.opened().await
    }

    pub async fn start_tls(mut self) -> io::Result<Self> {
        // The plain one is no more, and nothing that could be closed.
        self.pipe = js::start_tls(&self.pipe).map_err(broken)?;
        self.opened().await
    }

    async fn opened(self) -> io::Result<Self> {
        js::opened(&self.pipe).await.map_err(broken)?;
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
                    match js::arrived(&read.map_err(broken)?) {
                        Some(bytes) => Reading::Arrived(bytes.to_vec(), 0),
                        // The end.
                        None => return Poll::Ready(Ok(())),
                    }
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
    use worker::js_sys::{self, JsString, Promise, Uint8Array};
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

        export const opened = ({ socket }) => socket.opened;
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
        #[wasm_bindgen(catch)]
        pub async fn opened(pipe: &Pipe) -> Result<JsValue, JsValue>;
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
