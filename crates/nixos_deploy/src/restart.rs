//! Restart the machine.

use std::time::{Duration, Instant};

use ansible_module::Failure;
use guest_ssh::Connection;
use nixos_anywhere_install::{as_root, printable};
use serde_json::json;

use crate::apply::{ATTEMPT, Activation, PAUSE};
use crate::error::Error;
use crate::state::{self, Machine};

impl Activation<'_> {
    /// Restart the machine and wait until it runs `system` after that.
    ///
    /// # Errors
    /// Kind `wrong_system` if it boots another one, `timeout` if it does not come back.
    pub async fn reboot(
        &self,
        connection: &Connection,
        before: &Machine,
        system: &str,
    ) -> Result<Machine, Failure> {
        self.phase("Restarting");
        let asked = as_root(
            connection,
            "systemctl reboot",
            "systemctl reboot\n",
            &self.deadline.shorter(ATTEMPT),
        )
        .await;
        // Without a status the connection has ended, as it should.
        if let Ok(output) = asked
            && output.status.is_some_and(|status| status != 0)
        {
            return Err(Error::NotRestarted {
                host: self.host(),
                said: printable(&output.failure()),
            }
            .into());
        }
        let since = Instant::now();
        let back = self
            .deadline
            .shorter(Duration::from_secs(self.options.reboot_timeout));
        loop {
            let reason =
                match state::look(self.options, self.target, &back.shorter(3 * ATTEMPT)).await {
                    Ok((_, machine)) if machine.boot_id == before.boot_id => {
                        "it has not restarted yet".into()
                    }
                    Ok((_, machine)) if machine.current == system => return Ok(machine),
                    Ok((_, machine)) => {
                        return Err(Error::RestartedIntoAnother {
                            host: self.host(),
                            runs: machine.current,
                            system: system.to_owned(),
                        }
                        .into());
                    }
                    Err(failure) => failure.msg,
                };
            self.progress
                .emit(&json!({"event": "waiting", "host": self.options.host, "reason": reason}));
            if !back.sleep(2 * PAUSE).await {
                return Err(Error::RestartTimedOut {
                    host: self.host(),
                    waited: since.elapsed(),
                    reason,
                }
                .into());
            }
        }
    }
}
