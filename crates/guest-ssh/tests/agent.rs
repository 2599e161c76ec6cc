//! A login with an agent's key. In a program of its own, because it sets an environment variable.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deadline::Deadline;
use guest_ssh::{Connection, Identity, Label, Login, System, Target};
use module_lab::sshd::{INSTALLER, Sshd};

#[tokio::test]
async fn an_agent_can_log_in() {
    let sshd = Sshd::start(INSTALLER);
    let _agent = Agent::start(&sshd);
    let target = Target {
        host: "127.0.0.1".into(),
        port: sshd.port,
        jump: None,
        systems: vec![System {
            label: Label::Installer,
            keys: vec![sshd.host_key("ed25519").parse().unwrap()],
            login: Login {
                user: sshd.user.clone(),
                identity: Identity::Agent,
            },
        }],
    };
    let deadline = Deadline::after(Duration::from_secs(60));
    Connection::open(&target, &deadline).await.unwrap();
}

/// An ssh-agent with the client key, named in this process's environment.
struct Agent(Child);

impl Agent {
    fn start(sshd: &Sshd) -> Self {
        let socket = sshd.path("agent");
        let child = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let agent = Self(child);
        let added = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(20));
            Command::new("ssh-add")
                .arg("-q")
                .arg(sshd.client_key())
                .env("SSH_AUTH_SOCK", &socket)
                .stderr(Stdio::null())
                .status()
                .unwrap()
                .success()
        });
        assert!(added);
        // SAFETY: the only test of this program, and no other thread runs yet.
        unsafe { std::env::set_var("SSH_AUTH_SOCK", &socket) };
        agent
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
