//! The task from beginning to end: read, plan, apply, report; again when an answer was lost.

use std::cell::OnceCell;
use std::time::Duration;

use ansible_module::{Diff, Failure, Outcome, Task};
use nocloud_seed::Seed;
use pve_client::Volid;
use pve_module::{Context, Guard, GuardedVm, Session};

use crate::apply::{Iso, Target, apply};
use crate::content;
use crate::error::Error;
use crate::options::{Kind, Options, State};
use crate::plan::{Plan, Wanted};
use crate::report::{self, Ended};
use crate::state::{self, Current, Dns, Medium, SeedIso, Vm};

/// Do the task, also for another crate. Before every write the guard, if there is one, is asked with the VM's
/// configuration, and the write carries the digest of what it accepted.
///
/// # Errors
/// What the module fails with, and the guard's refusal.
pub async fn run(
    options: Options,
    task: Task,
    guard: Option<&Guard<'_>>,
) -> Result<Outcome, Failure> {
    // A private key given by mistake is refused below. It is masked, because the error repeats the value.
    let listed = options.ssh_authorized_keys.iter().flatten();
    for given in listed.chain(&options.sshkeys) {
        if given.contains("PRIVATE KEY") {
            task.secret(given);
        }
    }
    if let Some(drive) = options
        .drive
        .as_ref()
        .filter(|drive| !pve_schema::is_cdrom_drive(drive))
    {
        return Err(Error::InvalidDrive(drive.clone()).into());
    }
    let session = Session::open(&options.connection, options.timeout, None, task)?;
    let mut run = Run {
        context: session.context(),
        options: &options,
        planned: OnceCell::new(),
        lost: false,
        guard,
    };
    run.converge().await
}

/// How often it is tried before a lost answer is an error.
const ATTEMPTS: u32 = 3;
/// The pause before what there is is looked at after a lost answer.
const PAUSE: Duration = Duration::from_secs(1);

struct Run<'a> {
    context: Context<'a>,
    options: &'a Options,
    /// What the first attempt was to change.
    planned: OnceCell<Diff>,
    /// Whether the answer to a change was lost.
    lost: bool,
    /// What must hold for the VM's configuration before each write.
    guard: Option<&'a Guard<'a>>,
}

/// What is wanted, and what there is.
struct Found {
    wanted: Wanted,
    current: Current,
    /// A seed that is wanted: its content, and the ISO made of it.
    seed: Option<(Seed, Iso)>,
}

impl Run<'_> {
    /// Make the drive as described, again when an answer was lost.
    async fn converge(&mut self) -> Result<Outcome, Failure> {
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let outcome = match self.options.state {
                State::Present => self.present().await,
                State::Absent => self.absent().await,
            };
            match outcome {
                // Without an answer only the state tells whether the change was made. What is missing is planned anew.
                Err(failure)
                    if failure.may_have_happened
                        && attempts > 0
                        && self.context.deadline.sleep(PAUSE).await =>
                {
                    self.lost = true;
                }
                settled => return settled,
            }
        }
    }

    async fn present(&self) -> Result<Outcome, Failure> {
        let options = self.options;
        content::check_kind(options)?;
        let vmid = options.vmid;
        let vm = state::read_vm(&self.context, &options.node, vmid).await?;
        let vm = vm.ok_or(Error::VmNotFound { vmid })?;
        // Ansible's rules do not hold for other crates.
        let storage = options.storage.clone().ok_or(Error::StorageRequired)?;
        let drive = state::drive(options.drive.as_deref(), Some(&vm), vmid)?;
        let found = match options.kind {
            Kind::Nocloud => self.nocloud(vm, &storage).await?,
            Kind::Native => self.native(vm, storage, &drive).await?,
        };
        self.finish(&drive, found).await
    }

    /// The seed that the VM is to have, and what there is.
    async fn nocloud(&self, vm: Vm, storage: &str) -> Result<Found, Failure> {
        let isos = self.storages(&vm.node, "iso").await?;
        if !isos.iter().any(|iso| iso == storage) {
            return Err(unusable(storage, &vm.node, "ISO images", &isos).into());
        }
        let dns = self.node_dns(&vm.node).await?;
        let seed = content::seed(self.options, &vm, dns)?;
        for warning in seed.warnings() {
            self.context.task.warn(warning);
        }
        // On every storage: a run that was to move the seed may have ended before it removed the old one.
        let seeds = self.seeds(&vm.node, &isos).await?;
        let iso = Iso {
            volid: Volid::iso(storage, &seed.iso_name(self.options.vmid)),
            bytes: seed.iso(),
        };
        let wanted = Wanted::Nocloud {
            volid: iso.volid.clone(),
            size: iso.bytes.len() as u64,
        };
        Ok(Found {
            wanted,
            current: Current::new(Some(vm), seeds),
            seed: Some((seed, iso)),
        })
    }

    /// The native drive that the VM is to have, and what there is.
    async fn native(&self, vm: Vm, storage: String, drive: &str) -> Result<Found, Failure> {
        let vmid = self.options.vmid;
        let content = content::native(self.options)?;
        let has_drive = vm.next(drive).map(|value| Vm::medium(value, vmid)) == Some(Medium::Native);
        let isos = self.storages(&vm.node, "iso").await?;
        let mut current = Current::new(None, self.seeds(&vm.node, &isos).await?);
        if has_drive {
            current.stale = state::stale(&self.context, &vm.node, vmid).await?;
        } else {
            let images = self.storages(&vm.node, "images").await?;
            if !images.contains(&storage) {
                return Err(unusable(&storage, &vm.node, "disk images", &images).into());
            }
        }
        if content.password.is_some() && vm.next("cipassword").is_some() {
            current.password_hash = state::password_hash(&self.context, &vm.node, vmid).await?;
        }
        current.vm = Some(vm);
        Ok(Found {
            wanted: Wanted::Native { storage, content },
            current,
            seed: None,
        })
    }

    async fn absent(&self) -> Result<Outcome, Failure> {
        let options = self.options;
        let vmid = options.vmid;
        let vm = state::read_vm(&self.context, &options.node, vmid).await?;
        let drive = state::drive(options.drive.as_deref(), vm.as_ref(), vmid)?;
        let node = vm.as_ref().map_or(&options.node, |vm| &vm.node);
        let isos = self.storages(node, "iso").await?;
        // The storage of a native drive need not hold ISOs.
        if let Some(storage) = &options.storage
            && options.kind == Kind::Nocloud
            && !isos.contains(storage)
        {
            return Err(unusable(storage, node, "ISO images", &isos).into());
        }
        let seeds = self.seeds(node, &isos).await?;
        let found = Found {
            wanted: Wanted::Absent,
            current: Current::new(vm, seeds),
            seed: None,
        };
        self.finish(&drive, found).await
    }

    /// The node's DNS settings, if the guest has a fixed address and no `nameservers`. PVE does the same for a native drive.
    /// Without them the guest cannot resolve names.
    async fn node_dns(&self, node: &str) -> Result<Option<Dns>, Failure> {
        if self.options.network_config.is_some() || !content::lacks_dns(self.options)? {
            return Ok(None);
        }
        let vmid = self.options.vmid;
        let problem = match state::dns(&self.context, node).await {
            Ok(dns) if !dns.servers.is_empty() => return Ok(Some(dns)),
            Ok(_) => format!("node {node} has none that a guest can reach"),
            // A lack of privileges is not a reason to fail.
            Err(failure) if failure.status.is_some() => failure.msg,
            Err(failure) => return Err(failure),
        };
        self.context.task.warn(format!(
            "nameservers: VM {vmid} has a fixed address and no name server: {problem}; set nameservers, or grant Sys.Audit \
             on /nodes/{node} so that those of the node are taken"
        ));
        Ok(None)
    }

    /// The seeds of the VM on these storages. One that cannot be listed is left out, unless it is the one that is named.
    async fn seeds(&self, node: &str, isos: &[String]) -> Result<Vec<SeedIso>, Failure> {
        let mut found = Vec::new();
        for storage in isos {
            let vmid = self.options.vmid;
            match state::seeds(&self.context, node, vmid, storage).await {
                Ok(seeds) => found.extend(seeds),
                Err(failure)
                    if self
                        .options
                        .storage
                        .as_ref()
                        .is_none_or(|named| named == storage) =>
                {
                    return Err(failure);
                }
                Err(failure) => self.context.task.warn(format!(
                    "seeds of VM {vmid} on {storage}, if there are any, are not removed: {}",
                    failure.msg
                )),
            }
        }
        Ok(found)
    }

    /// The storages of the node that hold `content` and can be used now.
    async fn storages(&self, node: &str, content: &str) -> Result<Vec<String>, Failure> {
        let usable = state::usable_storages(&self.context, node, content).await?;
        Ok(usable.into_iter().map(|storage| storage.storage).collect())
    }

    /// Plans, applies unless it is a check, and reports.
    async fn finish(&self, drive: &str, found: Found) -> Result<Outcome, Failure> {
        let Found {
            wanted,
            mut current,
            seed,
        } = found;
        let (seed, iso) = seed.unzip();
        let plan = self.plan(drive, &wanted, &mut current).await?;
        let planned = || report::diff(self.options.vmid, drive, &plan, &current, seed.as_ref());
        let diff = self.planned.get_or_init(planned).clone();
        let changed = !plan.is_empty() || self.lost;
        let mut done = Vec::new();
        if changed && !self.context.task.check_mode {
            let applied = self.apply(drive, &wanted, &current, plan, iso, &mut done);
            if let Err(failure) = applied.await {
                let changed = !done.is_empty() || self.lost;
                return Err(failure.with("changed", changed).with("done", done));
            }
        }
        let after = match self.context.task.check_mode || current.vm.is_none() || !changed {
            true => current.vm.clone(),
            false => {
                let node = self.node(&current);
                state::read_vm(&self.context, node, self.options.vmid).await?
            }
        };
        let ended = Ended {
            vmid: self.options.vmid,
            drive,
            wanted: &wanted,
            before: current.vm.as_ref(),
            after: after.as_ref(),
            seed: seed.as_ref(),
            done: &done,
        };
        let outcome = match (changed, self.context.task.check_mode) {
            (false, _) => ended.unchanged(),
            (true, true) => ended.would_change().diff(diff),
            (true, false) => ended.changed().diff(diff),
        };
        Ok(ended.values(outcome))
    }

    /// What is to be done. Seeds that another VM has in a drive stay, with a warning.
    async fn plan(
        &self,
        drive: &str,
        wanted: &Wanted,
        current: &mut Current,
    ) -> Result<Plan, Failure> {
        let vmid = self.options.vmid;
        let plan = Plan::new(vmid, drive, wanted, current)?;
        if plan.delete.is_empty() {
            return Ok(plan);
        }
        current.held = state::held_elsewhere(&self.context, vmid, &plan.delete).await?;
        for (volid, other) in &current.held {
            self.context.task.warn(format!(
                "{volid} stays on its storage, because VM {other} has it in a drive"
            ));
        }
        Ok(Plan::new(vmid, drive, wanted, current)?)
    }

    /// Carry the plan out. What was done is added to `done`, also before a failure.
    async fn apply(
        &self,
        drive: &str,
        wanted: &Wanted,
        current: &Current,
        plan: Plan,
        iso: Option<Iso>,
        done: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let target = Target {
            vm: GuardedVm {
                client: self.context.client,
                node: self.node(current),
                vmid: self.options.vmid,
                deadline: self.context.deadline,
                guard: self.guard.filter(|_| current.vm.is_some()),
            },
            drive,
        };
        let password = match wanted {
            Wanted::Native { content, .. } => content.password.as_ref(),
            Wanted::Nocloud { .. } | Wanted::Absent => None,
        };
        let password = password.map(|secret| secret.expose());
        apply(&target, plan, iso, password, done).await
    }

    /// The node of the VM, or the option `node` if the VM does not exist.
    fn node<'b>(&'b self, current: &'b Current) -> &'b str {
        let vm = current.vm.as_ref();
        vm.map_or(&self.options.node, |vm| &vm.node)
    }
}

fn unusable(storage: &str, node: &str, content: &'static str, usable: &[String]) -> Error {
    Error::StorageUnusable {
        storage: storage.to_owned(),
        node: node.to_owned(),
        content,
        usable: usable.to_vec(),
    }
}
