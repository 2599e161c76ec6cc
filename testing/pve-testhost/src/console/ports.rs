//! The ports of consoles. They are numbers only: hosts on one computer would fight for real ones.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::io::{DuplexStream, duplex};
use tokio::sync::oneshot;

/// How much may be under way, in bytes.
pub const BUFFER: usize = 128 * 1024;

/// The ports that PVE gives to consoles.
const PORTS: std::ops::RangeInclusive<u16> = 5900..=5999;

/// The ports at which somebody is waited for.
#[derive(Default)]
pub struct Consoles(Mutex<HashMap<u16, oneshot::Sender<DuplexStream>>>);

impl Consoles {
    /// A free port, and what comes when somebody connects to it.
    pub fn open(&self) -> Option<(u16, oneshot::Receiver<DuplexStream>)> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, client| !client.is_closed());
        let port = PORTS.into_iter().find(|port| !waiting.contains_key(port))?;
        let (sender, receiver) = oneshot::channel();
        waiting.insert(port, sender);
        Some((port, receiver))
    }

    /// Connect to who waits at a port.
    pub fn connect(&self, port: u16) -> Option<DuplexStream> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (here, there) = duplex(BUFFER);
        waiting.remove(&port)?.send(there).ok()?;
        Some(here)
    }
}
