//! Restart the machine.

use std::time::{Duration, Instant};

use ansible_module::{Failure, FailureKind};
use guest_ssh::Connection;
use nixos_anywhere_install::{as_root, printable};
use serde_json::json;

use crate::apply::{ATTEMPT, Activation, PAUSE};
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
            let said = printable(&output.failure());
            let msg = format!("{}: systemctl reboot: {said}", self.options.host);
            return Err(self
                .failure(FailureKind::Activation, msg, "")
                .hint("restart the machine by hand; the new system is the one that it boots"));
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
                        let msg = format!(
                            "{}: after the restart it runs {} instead of {system}",
                            self.options.host, machine.current
                        );
                        return Err(self
                            .failure(FailureKind::WrongSystem, msg, "")
                            .hint("look at its console and at its boot menu"));
                    }
                    Err(failure) => failure.msg,
                };
            self.progress
                .emit(&json!({"event": "waiting", "host": self.options.host, "reason": reason}));
            if !back.sleep(2 * PAUSE).await {
                let waited = since.elapsed().as_secs();
                let msg = format!(
                    "{}: did not answer within {waited} s after its restart; last attempt: {reason}",
                    self.options.host
                );
                return Err(self.failure(FailureKind::Timeout, msg, "").hint(
                    "look at its console; its boot menu has the older generations, and a snapshot of the VM brings back its disks",
                ));
            }
        }
    }
}
