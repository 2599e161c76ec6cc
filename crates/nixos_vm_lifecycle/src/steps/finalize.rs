//! Step 6: installer and seed are detached, memory lent for the installation is given back, and the installed system answers with its
//! own host key and runs the closure that was installed.

use ansible_module::{Failure, Outcome};
use pve_module::record::{Phase, Record, Reinstall};
use serde_json::json;

use super::verify::verify;
use super::{change, host_key, keep, out_of_turn, published, reinstall, summed};
use crate::boot_watch::{BootWatch, System};
use crate::build;
use crate::context::Context;
use crate::error::StepError;
use crate::facts::{Answer, Decision, Seed, Vm};
use crate::kept;
use crate::keys;
use crate::known_hosts;
use crate::module_args::{Args, high_availability, protection};
use crate::options::Power;
use crate::state::{State, address};
use crate::store::Installation;

/// Finish the machine.
///
/// # Errors
/// A decision against it, and those of the modules that are called.
pub async fn run(context: &Context<'_>, mut state: State) -> Result<Outcome, Failure> {
    if context.task.check_mode {
        return Ok(Outcome::changed(
            "would detach the installer and the seed, start the installed system and verify it",
        ));
    }
    let decision = state.decide(context).await?;
    let (Decision::Finalize(found), Some(vm)) = (&decision, state.facts.vm.clone()) else {
        return Err(out_of_turn(&state, &decision, "it was to be finished"));
    };
    let installation = context.store.installation(&found.installation);
    let host_keys = host_keys(context, &state, found, &installation)?;
    let record = Record {
        phase: Phase::Installed,
        run: super::run(context)?.id.clone(),
        host_key: host_keys.first().cloned(),
        ..found.clone()
    };
    let finish = Finish {
        context,
        state: &state,
        vm,
        record,
        installation,
        host_keys,
    };
    let phases = [found.phase, Phase::Installed];
    let mut outcomes = vec![
        finish
            .record(Args::new(), &phases, Phase::Installed)
            .await?,
    ];
    outcomes.extend(finish.detach().await?);
    let (address, started) = finish.start().await?;
    outcomes.extend(started);
    finish.forget_installer(&address).await?;
    outcomes.push(finish.end().await?);
    let msg = format!(
        "{}: runs its installed system, without installer and seed",
        finish.vm.object
    );
    let facts = published::published(
        context,
        state.vmid(),
        &state.node(context),
        Some(address),
        &finish.host_keys,
        finish.installation.read("closure"),
    );
    Ok(summed(msg, &outcomes).fact("facts", facts))
}

/// A machine on the way from its installation to its end.
struct Finish<'a> {
    context: &'a Context<'a>,
    state: &'a State,
    vm: Vm,
    record: Record,
    installation: Installation,
    host_keys: Vec<String>,
}

impl Finish<'_> {
    /// Write the record with this phase, and the options in `args` with it.
    async fn record(&self, args: Args, from: &[Phase], to: Phase) -> Result<Outcome, Failure> {
        let mut record = Record {
            phase: to,
            ..self.record.clone()
        };
        if let Some(reinstall) = record.reinstall.as_mut().filter(|_| to == Phase::Done) {
            reinstall.detached.clear();
        }
        // A word that was there during the first installation has counted: the next run must not take it for a new one.
        let host = &self.context.options.host;
        if to == Phase::Done
            && record.reinstall.is_none()
            && self.state.facts.confirmed.contains(host)
        {
            record.reinstall = Some(Reinstall {
                confirmed: host.clone(),
                detached: Vec::new(),
            });
        }
        let vmid = self.state.vmid();
        let outcome = change(self.context, vmid, args, from, Some(record.clone())).await?;
        keep(self.state, &self.installation, &record)?;
        Ok(outcome)
    }

    /// Detach installer and seed, and give the stopped VM everything that its description says.
    async fn detach(&self) -> Result<Vec<Outcome>, Failure> {
        let (context, settings) = (self.context, self.context.settings());
        let (vmid, node) = (self.state.vmid(), self.state.node(context));
        let phases = [Phase::Installed];
        let guard = super::expect(super::run(context)?, &phases);
        let layout = &self.vm.layout;
        let by_image = self.record.image.is_some();
        let kept = settings.kept_drive(&self.record);
        let attached = match &kept {
            // What a seed says is read when the machine starts. One that is as it shall be is a reason for no restart.
            Some(seed) if by_image => {
                let seed = seed.clone();
                let planned = context.drive(seed, vmid, &node, Some(&guard), true);
                planned.await?.changed
            }
            _ => layout.installer.is_some() || layout.seed != Seed::None,
        };
        let mut outcomes = Vec::new();
        // The installer's root file system is the ISO: it can only be taken from a stopped machine.
        if self.vm.running && attached {
            outcomes.push(stop(context, self.state, &phases).await?);
        }
        // The seed of a machine that came from an image is replaced, not removed and made again.
        if kept.is_none() || (attached && !by_image) {
            let none = settings.no_seed();
            outcomes.push(
                context
                    .drive(none, vmid, &node, Some(&guard), false)
                    .await?,
            );
        }
        outcomes.extend(reinstall::attach(context, self.state, &self.record).await?);
        // Everything that the description says, now that nothing is pending: memory, boot order, drives.
        let mut args = match self.record.reinstall {
            Some(_) => settings.reinstalled(Phase::Installed, None),
            None => {
                let mut args = settings.vm(Phase::Installed, None);
                args.insert("memory".into(), settings.memory().into());
                args
            }
        };
        match (&layout.installer, &self.record.installer) {
            (Some(now), Some(attached)) if now != attached => context.task.warn(format!(
                "{}: {now} is in the drive of its installer, which this installation did not attach; it is left there",
                self.vm.object
            )),
            _ if by_image => {}
            _ => {
                args.insert("remove_disks".into(), json!([settings.installer_drive]));
            }
        }
        outcomes.push(change(context, vmid, args, &phases, None).await?);
        if let Some(drive) = kept {
            outcomes.push(
                context
                    .drive(drive, vmid, &node, Some(&guard), false)
                    .await?,
            );
        }
        Ok(outcomes)
    }

    /// Start the installed system, and verify it at the address that is returned.
    async fn start(&self) -> Result<(String, Vec<Outcome>), Failure> {
        let (context, vmid) = (self.context, self.state.vmid());
        let mut start = Args::new();
        start.insert("state".into(), "started".into());
        let watch = BootWatch::begin(context, self.state, &self.installation, System::Installed);
        let started = change(context, vmid, start, &[Phase::Installed], None).await?;
        let deadline = context.boot_deadline();
        let answered = async {
            let address = address(context, vmid, &deadline).await?;
            let left = deadline.remaining().as_secs().max(5);
            let closure = self.installation.read("closure");
            let verified = verify(context, closure, &address, &self.host_keys, left).await?;
            Ok((address, verified))
        };
        let (address, verified) = watch.during(answered).await?;
        Ok((address, vec![started, verified]))
    }

    /// Know the machine by its own host key, and remove what the controller kept of its installer.
    async fn forget_installer(&self, address: &str) -> Result<(), Failure> {
        let context = self.context;
        if let Some(names) = known_hosts::names(context.options, Some(address.to_owned())) {
            known_hosts::edit(&context.known_hosts(), &context.boot_deadline(), |text| {
                known_hosts::with(text, &names, &self.host_keys)
            })
            .await?;
        }
        let mut files = keys::temporary();
        files.push(build::DIR.into());
        files.push(host_key::KEPT.into());
        self.installation.remove(&files)?;
        // Of plays that ended before the VM was made. One that goes on would find this VM, and end.
        build::remove_ended(&context.store);
        Ok(())
    }

    /// Forget what the controller kept of installations of this VM before this one.
    fn forget_earlier(&self) -> Result<(), Failure> {
        let (store, cluster) = (&self.context.store, &self.state.cluster);
        for (earlier, _) in kept::others(store, cluster, &self.record) {
            earlier.forget()?;
        }
        Ok(())
    }

    /// Record that the machine is finished, last of all: from here on nothing is installed onto it any more.
    async fn end(&self) -> Result<Outcome, Failure> {
        let settings = self.context.settings();
        let mut end = Args::new();
        if settings.state == Some(Power::Stopped) {
            end.insert("state".into(), "stopped".into());
        }
        if let Some(protection) = protection(settings) {
            end.insert("protection".into(), protection);
        }
        if let Some(ha) = high_availability(settings, self.record.reinstall.is_some()) {
            end.insert("ha".into(), ha);
        }
        let phases = [Phase::Installed, Phase::Done];
        let outcome = self.record(end, &phases, Phase::Done).await?;
        self.forget_earlier()?;
        Ok(outcome)
    }
}

/// Stop what runs: the installer at once, since it was proved to be ours; an installed system in its own time.
async fn stop(context: &Context<'_>, state: &State, phases: &[Phase]) -> Result<Outcome, Failure> {
    let mut stop = Args::new();
    stop.insert("state".into(), "stopped".into());
    stop.insert("timeout".into(), context.settings().boot_timeout.into());
    stop.insert(
        "force".into(),
        (state.facts.answer == Answer::Installer).into(),
    );
    change(context, state.vmid(), stop, phases, None).await.map_err(|failure| {
        match state.facts.answer {
            Answer::Installer => failure,
            _ => failure.hint(
                "what runs is not known to be the installer, so it is not stopped hard; stop the VM by hand and run the play again",
            ),
        }
    })
}

/// The installed system's host keys: of this controller, of the record, or of the user.
///
/// # Errors
/// Kind `host_key` if none is known.
pub fn host_keys(
    context: &Context<'_>,
    state: &State,
    record: &Record,
    installation: &Installation,
) -> Result<Vec<String>, StepError> {
    let mut keys = keys::of(installation, record);
    if keys.is_empty() {
        keys.extend(keys::given_public(context.settings()));
    }
    if keys.is_empty() {
        return Err(StepError::HostKeyUnknown {
            object: state.object().to_owned(),
        });
    }
    Ok(keys)
}
