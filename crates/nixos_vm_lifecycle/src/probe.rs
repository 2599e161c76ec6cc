//! What answers at a machine's address, identified by its host key alone.

use std::path::PathBuf;
use std::time::Duration;

use deadline::{Deadline, backoff};
use guest_ssh::{
    Connection, Error, Identity, Jump, JumpError, JumpProblem, Label, Login, PublicKey, System,
    Target, greets,
};
use tokio::io::AsyncReadExt;

use crate::facts::Answer;

/// How long one question may take. An emulated guest needs seconds of CPU for a key exchange.
const LIMIT: Duration = Duration::from_secs(30);
/// How long a server at an address that should be free has to greet.
const GREETING: Duration = Duration::from_millis(1500);
/// The same through jump hosts, with the logins to them.
const GREETING_THROUGH: Duration = Duration::from_secs(20);
/// The longest pause between two questions to a guest that boots.
const PAUSE: Duration = Duration::from_secs(2);

/// Whom to ask, and by which keys the answer is identified.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    /// Host name or address.
    pub host: String,
    /// Port of SSH.
    pub port: u16,
    /// The jump hosts on the way.
    pub jump: Option<Jump>,
    /// The installer's host key.
    pub installer: Vec<String>,
    /// The login to the installer, if this controller has it.
    pub installer_login: Option<PathBuf>,
    /// The installed system's host keys.
    pub installed: Vec<String>,
    /// Who logs in to the installed system.
    pub user: String,
    /// With this key.
    pub login: Option<PathBuf>,
}

impl Probe {
    fn target(&self, label: Label) -> Option<Target> {
        let (keys, user, file) = match label {
            Label::Installer => (&self.installer, "root", &self.installer_login),
            Label::Installed => (&self.installed, self.user.as_str(), &self.login),
        };
        let keys: Vec<PublicKey> = keys.iter().filter_map(|key| key.parse().ok()).collect();
        // A key that cannot be used must not keep us from learning who answers; the login then fails, after the host key is verified.
        let usable = |file: &PathBuf| Identity::File(file.clone()).check().is_ok();
        let identity = match file.as_ref().filter(|file| usable(file)) {
            Some(file) => Identity::File(file.clone()),
            None => Identity::Agent,
        };
        (!keys.is_empty()).then(|| Target {
            host: self.host.clone(),
            port: self.port,
            jump: self.jump.clone(),
            systems: vec![System {
                label,
                keys,
                login: Login {
                    user: user.to_owned(),
                    identity,
                },
            }],
        })
    }

    /// Ask once.
    ///
    /// # Errors
    /// A jump host keeps us from asking. Nothing is known of the machine then.
    pub async fn ask(&self, deadline: &Deadline) -> Result<Answer, JumpError> {
        let deadline = deadline.shorter(LIMIT);
        let mut foreign = None;
        for label in [Label::Installer, Label::Installed] {
            let Some(target) = self.target(label) else {
                continue;
            };
            match Connection::open(&target, &deadline).await {
                // The host key was verified before the login was tried.
                Ok(_) | Err(Error::Login { .. } | Error::Agent { .. }) => {
                    return Ok(match label {
                        Label::Installer => Answer::Installer,
                        Label::Installed => Answer::Installed,
                    });
                }
                Err(Error::WrongKey { offered, .. }) => foreign = Some(offered),
                // A server that has no key of our types is another one.
                Err(Error::Handshake { reason, .. }) if reason.contains("no common algorithm") => {
                    foreign = Some(reason);
                }
                Err(Error::Jump(error)) if error.problem != JumpProblem::Beyond => {
                    return Err(error);
                }
                Err(error) => return Ok(Answer::Silent(error.to_string())),
            }
        }
        Ok(match foreign {
            Some(offered) => Answer::Foreign(format!("{}: {offered}", self.host)),
            None => Answer::Silent("no host key is known to verify it with".into()),
        })
    }

    /// Ask until something answers or the deadline passes.
    ///
    /// # Errors
    /// Those of [`Probe::ask`]: at once where waiting does not help.
    pub async fn wait(
        &self,
        deadline: &Deadline,
        mut on_silence: impl FnMut(&str),
    ) -> Result<Answer, JumpError> {
        let mut asked = 0;
        loop {
            let answer = self.ask(deadline).await;
            let why = match &answer {
                Ok(Answer::Silent(why)) => why.clone(),
                Err(error) if !error.is_final() => error.to_string(),
                _ => return answer,
            };
            on_silence(&why);
            asked += 1;
            if !deadline.sleep(backoff(asked, PAUSE)).await {
                return answer;
            }
        }
    }

    /// Log in to the jump hosts, where the machine has no address yet. One that refuses to connect to itself may connect to machines.
    ///
    /// # Errors
    /// A jump host that is not reached, is not the known one, or refuses the login.
    pub async fn log_in_to_jump_hosts(jump: &Jump) -> Result<(), Error> {
        let deadline = Deadline::after(GREETING_THROUGH);
        match greets("localhost", 22, jump, &deadline).await {
            Err(Error::Jump(error)) if error.problem == JumpProblem::Forwarding => Ok(()),
            greeted => greeted.map(drop),
        }
    }

    /// Whether an SSH server greets at the address, within a moment. For an address that nothing should have yet. A port that is merely
    /// open may be one that is forwarded to the machine.
    ///
    /// # Errors
    /// A jump host keeps us from asking.
    pub async fn occupied(&self) -> Result<bool, Error> {
        if let Some(jump) = &self.jump {
            let deadline = Deadline::after(GREETING_THROUGH);
            return greets(&self.host, self.port, jump, &deadline).await;
        }
        let address = (self.host.clone(), self.port);
        let greeting = async {
            let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
            let mut start = [0_u8; 4];
            stream.read_exact(&mut start).await.ok()?;
            Some(&start == b"SSH-")
        };
        let greeted = tokio::time::timeout(GREETING, greeting).await;
        Ok(matches!(greeted, Ok(Some(true))))
    }
}
