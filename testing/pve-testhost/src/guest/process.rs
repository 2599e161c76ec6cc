//! QEMU processes: children that cannot outlive the server.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus};
use std::sync::{OnceLock, mpsc};
use std::thread;

use rustix::process::{Pid, PidfdFlags, Signal};
use tokio::sync::oneshot;

/// A running process.
pub(super) struct Process {
    pub pid: u32,
    /// Not the number, which another process may have by the time it is used.
    handle: OwnedFd,
    /// Its end.
    pub exit: oneshot::Receiver<ExitStatus>,
}

/// Kills the process it was made for, and no other.
#[derive(Debug)]
pub(super) struct Killer(OwnedFd);

impl Killer {
    pub(super) fn kill(&self) {
        // It fails when the process has ended, which is what was wanted.
        let _ = rustix::process::pidfd_send_signal(&self.0, Signal::KILL);
    }
}

impl Process {
    pub(super) fn killer(&self) -> io::Result<Killer> {
        Ok(Killer(self.handle.try_clone()?))
    }
}

type Request = (Command, oneshot::Sender<io::Result<Process>>);

/// Start `command`. The kernel kills it when this process ends, however it ends.
pub(super) async fn spawn(command: Command) -> io::Result<Process> {
    let gone = || io::Error::other("the thread that starts guests is gone");
    let (sender, receiver) = oneshot::channel();
    spawner()?.send((command, sender)).map_err(|_| gone())?;
    receiver.await.map_err(|_| gone())?
}

/// The parent death signal comes when the *thread* that forked ends, so one thread that lives as
/// long as the server starts all guests; threads of the runtime come and go.
fn spawner() -> io::Result<&'static mpsc::Sender<Request>> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    if let Some(spawner) = SPAWNER.get() {
        return Ok(spawner);
    }
    let (sender, receiver) = mpsc::channel::<Request>();
    thread::Builder::new()
        .name("guest-spawner".into())
        .spawn(move || {
            for (command, reply) in receiver {
                // Whoever asked may be gone; the guest then ends with its handle.
                let _ = reply.send(start(command));
            }
        })?;
    Ok(SPAWNER.get_or_init(|| sender))
}

fn start(mut command: Command) -> io::Result<Process> {
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec the closure makes two system calls; it allocates nothing and
    // takes no lock, which another thread may have held when this one forked.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() == Some(parent) {
                Ok(())
            } else {
                Err(rustix::io::Errno::SRCH.into())
            }
        });
    }
    let mut child = command.spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty())?;
    let (sender, exit) = oneshot::channel();
    let id = child.id();
    thread::Builder::new()
        .name(format!("guest-{id}"))
        .spawn(move || {
            if let Ok(status) = child.wait() {
                let _ = sender.send(status);
            }
        })?;
    Ok(Process {
        pid: id,
        handle,
        exit,
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[tokio::test]
    async fn ends_and_kills_are_noticed() {
        let process = spawn(Command::new("true")).await.unwrap();
        assert!(process.exit.await.unwrap().success());
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        let process = spawn(sleep).await.unwrap();
        process.killer().unwrap().kill();
        assert_eq!(process.exit.await.unwrap().signal(), Some(9));
        assert!(spawn(Command::new("/nonexistent")).await.is_err());
    }

    #[test]
    fn a_child_outlives_the_runtime_thread_that_asked_for_it() {
        let process = thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let mut sleep = Command::new("sleep");
            sleep.arg("60");
            runtime.block_on(spawn(sleep)).unwrap()
        })
        .join()
        .unwrap();
        let mut exit = process.exit;
        // Nothing to wait for: a death signal would have been sent by the end of that thread.
        assert!(exit.try_recv().is_err());
        Killer(process.handle).kill();
        assert_eq!(exit.blocking_recv().unwrap().signal(), Some(9));
    }
}
