//! One connection: start-up, then statements and their answers in order.

use super::Server;

/// The server's side of one connection.
#[derive(Debug, Default)]
pub struct Session {
    output: Vec<u8>,
    is_closed: bool,
}

impl Session {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes, cut anywhere, and does every message that is complete.
    pub fn handle_input(&mut self, _server: &mut Server, _bytes: &[u8], _now_ms: u64) {}

    pub fn take_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The server has closed the connection, after what [`Self::take_output`] gives.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }
}
