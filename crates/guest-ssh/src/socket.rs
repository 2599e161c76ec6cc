//! Waiting for a socket.

use std::io;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{RecvFlags, recv};

/// Poll `socket` for `flags` for at most `limit`; whether it became ready.
pub(crate) fn poll_for(
    socket: &impl std::os::fd::AsFd,
    flags: PollFlags,
    limit: Duration,
) -> io::Result<bool> {
    let limit = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: limit.subsec_nanos().into(),
    };
    let mut fds = [PollFd::new(socket, flags)];
    match poll(&mut fds, Some(&limit)) {
        Ok(ready) => Ok(ready > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether a byte is there, which is not taken; false at the end.
pub(crate) fn peek(socket: &impl std::os::fd::AsFd) -> io::Result<bool> {
    let mut byte = [0_u8; 1];
    let (read, _) = recv(socket, &mut byte, RecvFlags::PEEK)?;
    Ok(read > 0)
}
