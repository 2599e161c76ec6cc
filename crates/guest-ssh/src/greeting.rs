//! Whether an SSH server is at an address behind jump hosts, without a login to it.

use deadline::Deadline;

use crate::connection::on_a_thread;
use crate::jump::Tunnel;
use crate::{Error, Jump, JumpProblem};

/// What every SSH server begins with.
const BEGIN: &[u8] = b"SSH-";

/// Whether an SSH server greets at `host` behind the jump hosts. A port that is open and silent is not one.
///
/// # Errors
/// [`Error::Jump`] when a jump host keeps us from asking: it may greet all the same.
pub async fn greets(
    host: &str,
    port: u16,
    jump: &Jump,
    deadline: &Deadline,
) -> Result<bool, Error> {
    let (host, jump, limit) = (host.to_owned(), jump.clone(), *deadline);
    let what = format!("SSH to {host} port {port}");
    // Its waits end with the deadline by themselves, with an error that says more.
    let patient = Deadline::after(deadline.remaining() + std::time::Duration::from_secs(5));
    let asked = on_a_thread(&what, &patient, move || {
        let tunnel = Tunnel::open(&jump, &host, port, &limit)?;
        Ok(tunnel.begins_with(BEGIN, &limit))
    });
    match asked.await {
        Err(Error::Banner { .. }) => Ok(false),
        Err(Error::Jump(error)) if error.problem == JumpProblem::Beyond => Ok(false),
        asked => asked,
    }
}
