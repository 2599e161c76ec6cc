//! Another address of the test host, which ceases to exist at a given byte.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::RUNTIME;

/// The host in `127.0.0.1` at `127.0.0.2`, until it vanishes.
pub struct Relay {
    left: Arc<AtomicU64>,
}

impl Relay {
    /// Its address.
    pub const HOST: &'static str = "127.0.0.2";

    /// Pass on what comes to `port`, `bytes` of it over all connections: then every connection breaks,
    /// and no new one is taken.
    pub fn start(port: u16, bytes: u64) -> Self {
        let listener = RUNTIME
            .block_on(TcpListener::bind((Self::HOST, port)))
            .unwrap();
        let left = Arc::new(AtomicU64::new(bytes));
        let (gone, vanished) = watch::channel(false);
        let gone = Arc::new(gone);
        let own = left.clone();
        RUNTIME.spawn(async move {
            let mut end = vanished.clone();
            loop {
                let tcp = tokio::select! {
                    _ = end.wait_for(|gone| *gone) => return,
                    tcp = listener.accept() => tcp,
                };
                let Ok((tcp, _)) = tcp else { return };
                let (left, gone, mut end) = (own.clone(), gone.clone(), vanished.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        _ = end.wait_for(|gone| *gone) => {}
                        _ = pass(tcp, port, &left, &gone) => {}
                    }
                });
            }
        });
        Self { left }
    }

    /// Whether it has vanished.
    pub fn vanished(&self) -> bool {
        self.left.load(Ordering::SeqCst) == 0
    }
}

async fn pass(
    client: TcpStream,
    port: u16,
    left: &AtomicU64,
    gone: &watch::Sender<bool>,
) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let up = async {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from_client.read(&mut buffer).await?;
            let take = |left: u64| Some(left.saturating_sub(read as u64));
            let before = left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, take)
                .unwrap_or(0);
            let passed = (before as usize).min(read);
            to_server.write_all(&buffer[..passed]).await?;
            if before <= read as u64 {
                let _ = gone.send(true);
            }
            if read == 0 {
                return to_server.shutdown().await;
            }
        }
    };
    let down = tokio::io::copy(&mut from_server, &mut to_client);
    tokio::select! {
        ended = up => ended,
        ended = down => ended.map(|_| ()),
    }
}
