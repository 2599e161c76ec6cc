//! What the fuzz targets call.

use std::time::Duration;

use ansible_module::Progress;
use tokio::sync::mpsc;

use crate::commands::child::{Listener, Work, read};
use crate::output::log::Log;
use crate::output::watch::Watch;

/// Read these bytes as the output of nixos-anywhere. Returns what is kept of it: the number of phases, and the last lines.
///
/// # Panics
/// Never: a log without a file cannot fail.
pub async fn read_output(bytes: &[u8]) -> (usize, String) {
    let log = Log::open(None).unwrap_or_else(|error| panic!("{error:?}"));
    let mut watch = Watch::new(log, Progress::default(), None);
    let (sender, mut lines) = mpsc::channel::<(bool, String)>(1);
    let listen = async {
        while let Some((stdout, line)) = lines.recv().await {
            watch.line(stdout, &line);
            watch.tick(Duration::ZERO, Work::default());
            let _ = watch.limit();
        }
    };
    tokio::join!(read(bytes, false, sender), listen);
    (watch.phases().len(), watch.tail())
}
