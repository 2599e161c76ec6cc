//! Connect, verify the server, authenticate.

use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use deadline::Deadline;
use rustix::event::PollFlags;
use ssh2::{ErrorCode, MethodType, Session};

use crate::error::Error;
use crate::jump::Tunnel;
use crate::key::{blob_algorithm, fingerprint};
use crate::socket::{peek, poll_for};
use crate::{Identity, Label, Login, Target};

/// An authenticated connection to a verified guest. Cheap to clone; closed with the last clone.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    session: Session,
    stream: Stream,
    address: String,
    label: Label,
    user: String,
}

/// What the session goes over.
pub(crate) enum Stream {
    /// To the guest itself.
    Direct(TcpStream),
    /// Through jump hosts.
    Jump(Tunnel),
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Direct(stream) => stream.as_fd(),
            Self::Jump(tunnel) => tunnel.as_fd(),
        }
    }
}

/// For the TCP connection alone. Long enough for a SYN that is sent again twice.
const CONNECT_LIMIT: Duration = Duration::from_secs(8);
/// For the server's first bytes. A server sends them at once, an emulated one on a busy machine
/// within seconds; a port forwarded to a guest that is still booting (QEMU's user network accepts
/// for it) stays silent.
const BANNER_LIMIT: Duration = Duration::from_secs(15);
/// For key exchange and login. An emulated guest needs seconds of CPU for them.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

impl Connection {
    /// Connect to `target`, verify its host key, and log in with the login that belongs to it.
    ///
    /// # Errors
    /// See [`Error`]. With [`Error::WrongKey`] nothing was sent but the key exchange.
    pub async fn open(target: &Target, deadline: &Deadline) -> Result<Self, Error> {
        let (owned, limit) = (target.clone(), *deadline);
        let what = format!("SSH to {}", target.address());
        on_a_thread(&what, deadline, move || Self::open_blocking(&owned, &limit)).await
    }

    /// [`Connection::open`] on the calling thread.
    pub(crate) fn open_blocking(target: &Target, deadline: &Deadline) -> Result<Self, Error> {
        let address = target.address();
        if target.known().is_empty() {
            return Err(Error::NoKnownKey { address });
        }
        for system in &target.systems {
            system.login.identity.check()?;
        }
        let mut strangers = Vec::new();
        let mut wrong_key = None;
        // A server has a key of each type and offers the type we prefer. When that one is not
        // known, one of another type may be.
        loop {
            let methods = target.methods(&strangers);
            if methods.is_empty() {
                return Err(wrong_key.unwrap_or(Error::NoKnownKey { address }));
            }
            let stream = dial(target, deadline)?;
            let session = match handshake(&address, &stream, &methods, deadline) {
                Ok(session) => session,
                // No key of the remaining types: the first answer is the one that says more.
                Err(Error::Handshake { .. }) if wrong_key.is_some() => {
                    return Err(wrong_key.unwrap_or(Error::NoKnownKey { address }));
                }
                Err(error) => return Err(error),
            };
            let (blob, _) = session.host_key().ok_or_else(|| Error::Handshake {
                address: address.clone(),
                reason: "the server showed no host key".into(),
            })?;
            let owners = target.owners(blob);
            if owners.is_empty() {
                let type_ = blob_algorithm(blob).unwrap_or("unknown").to_owned();
                wrong_key.get_or_insert(Error::WrongKey {
                    address: address.clone(),
                    offered: format!("{type_} {}", fingerprint(blob)),
                    known: target.known(),
                });
                if strangers.contains(&type_) {
                    return Err(wrong_key.unwrap_or(Error::NoKnownKey { address }));
                }
                strangers.push(type_);
                continue;
            }
            let mut refused = None;
            for system in owners {
                bound(&session, deadline.remaining().min(LOGIN_LIMIT));
                match log_in(&address, &session, &system.login) {
                    Ok(()) => {
                        return Ok(Self(Arc::new(Inner {
                            session,
                            stream,
                            address,
                            label: system.label,
                            user: system.login.user.clone(),
                        })));
                    }
                    Err(error) => refused = Some(error),
                }
            }
            return Err(refused.unwrap_or(Error::NoKnownKey { address }));
        }
    }

    /// Which system answered, by its host key.
    pub fn label(&self) -> Label {
        self.0.label
    }

    /// The user we are on the guest.
    pub fn user(&self) -> &str {
        &self.0.user
    }

    /// `HOST port PORT`.
    pub fn address(&self) -> &str {
        &self.0.address
    }

    pub(crate) fn session(&self) -> &Session {
        &self.0.session
    }

    pub(crate) fn stream(&self) -> &Stream {
        &self.0.stream
    }
}

/// Do blocking work on a thread of its own and await it until `deadline`. The thread is left
/// behind when the time is over; its own waits are bounded too.
pub(crate) async fn on_a_thread<T: Send + 'static>(
    what: &str,
    deadline: &Deadline,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    thread::spawn(move || sender.send(work()));
    match deadline.run(what, receiver).await? {
        Ok(result) => result,
        Err(_) => Err(Error::Exec {
            address: String::new(),
            what: what.to_owned(),
            reason: "its thread panicked".into(),
        }),
    }
}

/// Bound each following blocking call of `session`. libssh2 takes 0 for "no limit".
pub(crate) fn bound(session: &Session, limit: Duration) {
    let milliseconds = limit.as_millis().clamp(1, u32::MAX.into());
    session.set_timeout(u32::try_from(milliseconds).unwrap_or(u32::MAX));
}

/// Connect, and wait for the first byte of the server.
fn dial(target: &Target, deadline: &Deadline) -> Result<Stream, Error> {
    if let Some(jump) = &target.jump {
        return Tunnel::open(jump, &target.host, target.port, deadline).map(Stream::Jump);
    }
    let name_error = |source| Error::Name {
        host: target.host.clone(),
        source,
    };
    // An IPv6 address may be in brackets, as people write it beside a port.
    let host = target
        .host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(&target.host);
    let addresses: Vec<SocketAddr> = (host, target.port)
        .to_socket_addrs()
        .map_err(name_error)?
        .collect();
    let mut last = name_error(io::Error::new(io::ErrorKind::NotFound, "it has none"));
    for address in addresses {
        let limit = deadline
            .remaining()
            .min(CONNECT_LIMIT)
            .max(Duration::from_millis(1));
        match TcpStream::connect_timeout(&address, limit) {
            Ok(stream) => return banner_seen(target, stream, deadline).map(Stream::Direct),
            Err(error) => last = refusal(target, error, limit),
        }
    }
    Err(last)
}

fn refusal(target: &Target, error: io::Error, limit: Duration) -> Error {
    let address = target.address();
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::Refused { address },
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Error::NoAnswer { address, limit },
        _ => Error::Unreachable {
            address,
            source: error,
        },
    }
}

/// Wait for the server's first byte without taking it, so that a silent port is told from a slow
/// key exchange.
fn banner_seen(
    target: &Target,
    stream: TcpStream,
    deadline: &Deadline,
) -> Result<TcpStream, Error> {
    let fail = |reason: String| Error::Banner {
        address: target.address(),
        reason,
    };
    // Small packets go back and forth; waiting to fill them would only cost time.
    let _ = stream.set_nodelay(true);
    let limit = deadline.remaining().min(BANNER_LIMIT);
    match poll_for(&stream, PollFlags::IN, limit).map_err(|error| fail(error.to_string()))? {
        false => Err(fail(format!("silent for {} s", limit.as_secs()))),
        true => match peek(&stream) {
            Ok(false) => Err(fail("it was closed at once".into())),
            Ok(true) => Ok(stream),
            Err(error) => Err(fail(error.to_string())),
        },
    }
}

/// Key exchange, restricted to host keys of the types we could verify.
fn handshake(
    address: &str,
    stream: &Stream,
    methods: &[&str],
    deadline: &Deadline,
) -> Result<Session, Error> {
    let fail = |error: ssh2::Error| Error::Handshake {
        address: address.to_owned(),
        reason: match error.code() {
            // LIBSSH2_ERROR_KEX_FAILURE: libssh2's own text does not name the usual cause.
            ErrorCode::Session(-5) => format!(
                "{} (no common algorithm, or the server has no host key of the types {})",
                error.message(),
                methods.join(", ")
            ),
            _ => error.message().to_owned(),
        },
    };
    let mut session = Session::new().map_err(fail)?;
    session
        .method_pref(MethodType::HostKey, &methods.join(","))
        .map_err(fail)?;
    let socket = stream.as_fd().try_clone_to_owned();
    let socket = socket.map_err(|error| Error::Handshake {
        address: address.to_owned(),
        reason: error.to_string(),
    })?;
    session.set_tcp_stream(socket);
    bound(&session, deadline.remaining().min(LOGIN_LIMIT));
    session.handshake().map_err(fail)?;
    Ok(session)
}

fn log_in(address: &str, session: &Session, login: &Login) -> Result<(), Error> {
    let refused = |reason: String| Error::Login {
        address: address.to_owned(),
        user: login.user.clone(),
        with: login.identity.describe(),
        reason,
    };
    match &login.identity {
        Identity::File(path) => session
            .userauth_pubkey_file(&login.user, None, path, None)
            .map_err(|error| match error.code() {
                // LIBSSH2_ERROR_FILE
                ErrorCode::Session(-16) => Error::Identity {
                    path: path.clone(),
                    reason: error.message().to_owned(),
                },
                _ => refused(error.message().to_owned()),
            }),
        Identity::Agent => {
            let fail = |error: ssh2::Error| Error::Agent {
                reason: error.message().to_owned(),
            };
            let mut agent = session.agent().map_err(fail)?;
            agent.connect().map_err(fail)?;
            agent.list_identities().map_err(fail)?;
            let keys = agent.identities().map_err(fail)?;
            let mut reason = "the agent holds no key".to_owned();
            for key in &keys {
                match agent.userauth(&login.user, key) {
                    Ok(()) => return Ok(()),
                    Err(error) => reason = error.message().to_owned(),
                }
            }
            Err(refused(reason))
        }
    }
}
