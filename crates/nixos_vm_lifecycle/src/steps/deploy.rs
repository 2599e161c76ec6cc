//! Later changes: the flake's present system on a finished machine, with a snapshot of the VM before it if that is wanted.

use ansible_module::{Failure, Outcome};
use pve_module::record::Record;
use serde_json::{Value, json};

use super::verify::verify;
use super::{finalize, login_key, out_of_turn};
use crate::context::{Context, text};
use crate::error::{LocalError, StepError};
use crate::facts::Decision;
use crate::module_args::Args;
use crate::options::Power;
use crate::state::{State, address};
use crate::store::Installation;
use crate::system_facts;

/// What the names of the snapshots begin with.
const PREFIX: &str = "nixos-deploy-";

/// How many seconds longer than it waits to be confirmed a machine is given to answer, before its VM is rolled back: it may undo the
/// deployment itself.
const ANSWERS: u64 = 60;

/// The file with the names of the snapshots that deployments took, one a line: what is to be deleted once one has worked.
const SNAPSHOT: &str = "deploy_snapshot";

/// The mistakes in the variables that a deployment would meet.
///
/// # Errors
/// Kind `preflight`, with all of them.
pub fn check(context: &Context<'_>) -> Result<(), StepError> {
    let settings = context.settings();
    let mut mistakes = Vec::new();
    if settings
        .flake
        .as_deref()
        .unwrap_or_default()
        .trim()
        .is_empty()
    {
        mistakes.push("nixos_vm_flake: is required to deploy (nixos_vm_deploy)".to_owned());
    }
    if settings.deploy_rollback && !settings.deploy_snapshot {
        mistakes
            .push("nixos_vm_deploy_rollback: requires nixos_vm_deploy_snapshot: true".to_owned());
    }
    mistakes.extend(system_facts::mistakes(settings));
    mistakes.extend(system_facts::untracked(settings));
    match mistakes.is_empty() {
        true => Ok(()),
        false => Err(StepError::preflight(&context.options.host, mistakes)),
    }
}

/// Deploy.
///
/// # Errors
/// A decision against it, and those of `nixos_deploy` and `proxmox_snapshot`. Kind `rolled_back` if the VM was rolled back.
pub async fn run(context: &Context<'_>, mut state: State) -> Result<Outcome, Failure> {
    check(context)?;
    let decision = state.decide(context).await?;
    let (Decision::Converge(record), Some(vm)) = (&decision, state.facts.vm.clone()) else {
        return Err(StepError::NotFinished {
            object: state.object().to_owned(),
            host: context.options.host.clone(),
            phase: decision.record().map(|record| record.phase),
        }
        .into());
    };
    if !vm.running {
        // The step 'provision' of the run would start it, unless it is to be stopped.
        let stays = context.settings().state == Some(Power::Stopped);
        if context.task.check_mode && !stays {
            return Ok(Outcome::unchanged(format!(
                "{}: is stopped; check mode cannot read which system it runs",
                vm.object
            )));
        }
        return Err(StepError::Stopped { object: vm.object }.into());
    }
    let installation = context.store.installation(&record.installation);
    let deployment = Deployment {
        context,
        object: vm.object,
        vmid: state.vmid(),
        record,
        host_keys: finalize::host_keys(context, &state, record, &installation)?,
        address: address(context, state.vmid(), &context.boot_deadline()).await?,
        installation,
    };
    deployment.run().await
}

/// The deployment to one machine.
struct Deployment<'a> {
    context: &'a Context<'a>,
    object: String,
    vmid: u32,
    record: &'a Record,
    installation: Installation,
    host_keys: Vec<String>,
    address: String,
}

impl Deployment<'_> {
    async fn run(&self) -> Result<Outcome, Failure> {
        let settings = self.context.settings();
        if self.context.task.check_mode {
            if system_facts::out_of_date(self.context) {
                return Ok(Outcome::changed(format!(
                    "{}: would write the facts of the inventory and deploy what the flake builds with them",
                    self.object
                )));
            }
            return self.deploy(false).await;
        }
        system_facts::write(settings)?;
        let mut snapshot = None;
        if settings.deploy_snapshot {
            // Built first, since that may take longer than everything after it.
            let planned = self.deploy(true).await?;
            if !planned.changed {
                self.delete_snapshot().await?;
                return Ok(planned);
            }
            snapshot = Some(self.take_snapshot().await?);
        }
        match (self.deploy(false).await, snapshot) {
            (Ok(outcome), None) => {
                self.delete_snapshot().await?;
                Ok(self.kept(outcome)?)
            }
            (Ok(outcome), Some(name)) => {
                self.end_snapshot().await?;
                Ok(self.kept(outcome)?.with("snapshot", name))
            }
            (Err(failure), None) => Err(failure),
            (Err(failure), Some(name)) => Err(self.after_failure(failure, &name).await),
        }
    }

    /// Deploy, or say what a deployment would do, with the system built.
    async fn deploy(&self, plan: bool) -> Result<Outcome, Failure> {
        let settings = self.context.settings();
        let mut args = Args::new();
        args.insert("host".into(), self.address.clone().into());
        args.insert("port".into(), settings.ssh_port.into());
        args.insert("user".into(), settings.ssh_user.clone().into());
        args.insert("host_keys".into(), json!(self.host_keys));
        args.extend(settings.jump_args());
        args.insert("flake".into(), settings.flake.clone().into());
        let facts = system_facts::temporary_dir()?;
        system_facts::wrap(settings, &mut args, &facts.path().join(system_facts::DIR))?;
        args.insert("action".into(), json!(settings.deploy_action));
        args.insert("reboot".into(), json!(settings.deploy_reboot));
        args.insert("reboot_timeout".into(), settings.boot_timeout.into());
        args.insert("confirm_timeout".into(), settings.deploy_timeout.into());
        args.insert("timeout".into(), settings.install_timeout.into());
        if let Some(tools) = &settings.tools_path {
            args.insert("tools_path".into(), json!(tools));
        }
        // What the user gave Nix for the installation holds for later builds, too.
        let install = settings.further().install;
        for name in ["nix_options", "show_trace", "substitute_on_destination"] {
            args.extend(
                install
                    .get(name)
                    .map(|value| (name.to_owned(), value.clone())),
            );
        }
        if !self.context.task.check_mode {
            self.installation.make()?;
            args.insert(
                "log_path".into(),
                json!(self.installation.path("deploy.log")),
            );
        }
        let _file = login_key(self.context, &mut args)?;
        match plan {
            true => self.context.plan_deployment(args).await,
            false => self.context.deploy(args).await,
        }
    }

    /// Remember the closure that the machine runs from now on: it is a fact of the machine.
    fn kept(&self, outcome: Outcome) -> Result<Outcome, LocalError> {
        let running = text(&outcome, "running_system");
        if outcome.changed && !running.is_empty() {
            self.installation.write("closure", &running)?;
        }
        Ok(outcome)
    }

    async fn snapshot(&self, name: &str, more: Value) -> Result<Outcome, Failure> {
        let mut args = Args::new();
        args.insert("vmid".into(), self.vmid.into());
        args.insert("snapname".into(), name.into());
        args.extend(more.as_object().cloned().unwrap_or_default());
        self.context.snapshot(args).await
    }

    /// Take a snapshot. Its name is kept before it exists, so that the run after one that was killed knows what to delete.
    async fn take_snapshot(&self) -> Result<String, Failure> {
        let settings = self.context.settings();
        let name = format!("{}{}", self.prefix(), super::run(self.context)?.id);
        let earlier = self.installation.read(SNAPSHOT).unwrap_or_default();
        self.installation
            .write(SNAPSHOT, format!("{earlier}\n{name}").trim())?;
        let description = format!(
            "Before a deployment to {} (installation {})",
            self.context.options.host, self.record.installation
        );
        let more = json!({
            "state": "present", "description": description, "vmstate": settings.deploy_snapshot_memory,
            // 0 keeps all.
            "retention": settings.deploy_snapshots_kept, "retention_prefix": self.prefix(),
        });
        self.snapshot(&name, more).await?;
        Ok(name)
    }

    /// The deployment has worked: its snapshot is one of those that are kept, or is deleted.
    async fn end_snapshot(&self) -> Result<(), Failure> {
        match self.context.settings().deploy_snapshots_kept {
            0 => self.delete_snapshot().await,
            _ => Ok(self.installation.remove(&[SNAPSHOT.to_owned()]).map(drop)?),
        }
    }

    /// What the names of this installation's snapshots begin with.
    fn prefix(&self) -> String {
        let id: String = self.record.installation.chars().take(8).collect();
        format!("{PREFIX}{id}-")
    }

    /// Delete the snapshots of earlier deployments of this controller, if there are any.
    async fn delete_snapshot(&self) -> Result<(), Failure> {
        let Some(names) = self.installation.read(SNAPSHOT) else {
            return Ok(());
        };
        for name in names.split_whitespace() {
            self.snapshot(name, json!({"state": "absent"})).await?;
        }
        Ok(self.installation.remove(&[SNAPSHOT.to_owned()]).map(drop)?)
    }

    /// Roll the VM back if the machine does not come back and the user asked for it; else say how.
    async fn after_failure(&self, failure: Failure, name: &str) -> Failure {
        let settings = self.context.settings();
        // Whatever failed, a machine that answers is not rolled back; nor is one that nothing was done to.
        let touched = failure.values.get("changed") == Some(&true.into());
        let lost = touched
            && settings.deploy_rollback
            && !self.answers(settings.deploy_timeout + ANSWERS).await;
        if !lost {
            let hint = format!(
                "{}the VM's earlier state is in the snapshot {name}, which the next deployment that works deletes",
                failure
                    .hint
                    .as_ref()
                    .map(|hint| format!("{hint}; "))
                    .unwrap_or_default()
            );
            return failure.hint(hint).with("snapshot", name);
        }
        match self.roll_back(name).await {
            Ok(()) => StepError::RolledBack {
                object: self.object.clone(),
                snapshot: name.to_owned(),
                why: failure.msg,
            }
            .into(),
            Err(second) => {
                let msg = format!(
                    "{}; it could not be rolled back to the snapshot {name} either: {}",
                    failure.msg, second.msg
                );
                Failure { msg, ..failure }.with("snapshot", name)
            }
        }
    }

    /// Whether the installed system answers within so many seconds.
    async fn answers(&self, seconds: u64) -> bool {
        verify(self.context, None, &self.address, &self.host_keys, seconds)
            .await
            .is_ok()
    }

    async fn roll_back(&self, name: &str) -> Result<(), Failure> {
        // It may have become another's while the machine was waited for.
        let mut state = State::read(self.context).await?;
        let decision = state.decide(self.context).await?;
        let ours = decision
            .record()
            .is_some_and(|record| record.installation == self.record.installation);
        if !ours || state.vmid() != self.vmid {
            return Err(out_of_turn(&state, &decision, "it was to be rolled back"));
        }
        self.snapshot(name, json!({"state": "rolled_back", "start": true}))
            .await?;
        let seconds = self.context.settings().boot_timeout;
        verify(self.context, None, &self.address, &self.host_keys, seconds).await?;
        Ok(())
    }
}
