//! The Ansible module `cloudinit_drive`: a VM's cloud-init drive, present with
//! this content, or absent without a trace.

mod apply;
mod content;
mod docs;
mod holders;
mod options;
mod password;
mod plan;
mod state;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::time::Duration;

use ansible_module::{Diff, Documentation, Failure, Module, Outcome, Rule, Task};
use deadline::Deadline;
use nocloud_seed::Seed;
use pve_client::{Client, Volid};
use pve_module::{Connection, Guard, GuardedVm, may_have_happened};
use serde_json::{Map, Value, json};

use crate::apply::{Iso, Place, apply};
use crate::options::{Kind, State};
use crate::plan::{Plan, Wanted};
use crate::state::{Current, Dns, Medium, SeedIso, Vm};

pub use crate::options::Options;

/// The module.
pub struct CloudinitDrive;

impl Module for CloudinitDrive {
    const NAME: &'static str = "cloudinit_drive";
    type Options = Options;

    fn documentation() -> Documentation {
        docs::documentation()
    }

    fn rules() -> Vec<Rule> {
        let mut rules = Connection::rules();
        rules.extend([
            Rule::RequiredIf {
                option: "state",
                value: "present",
                options: &["storage"],
                one_is_enough: false,
            },
            Rule::MutuallyExclusive(&["network_config", "ipconfig"]),
        ]);
        rules
    }

    async fn run(options: Options, task: Task) -> Result<Outcome, Failure> {
        run(options, task, None).await
    }
}

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
    // Refused below, but not shown for that.
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
        return Err(Failure::new(
            "invalid_option",
            format!(
                "drive: must be ide0 to ide3, sata0 to sata5 or scsi0 to scsi30 (got {drive:?})"
            ),
        ));
    }
    let mut run = Run {
        client: options.connection.client()?,
        deadline: Deadline::after(Duration::from_secs(options.timeout)),
        options,
        task,
        planned: OnceCell::new(),
        lost: false,
        guard,
    };
    let mut attempts = ATTEMPTS;
    loop {
        attempts -= 1;
        let outcome = match run.options.state {
            State::Present => run.present().await,
            State::Absent => run.absent().await,
        };
        match outcome {
            // Only looking tells whether a change was made whose answer was lost. What is missing is planned anew.
            Err(failure)
                if may_have_happened(&failure)
                    && attempts > 0
                    && run.deadline.sleep(PAUSE).await =>
            {
                run.lost = true;
            }
            settled => return settled,
        }
    }
}
/// How often it is tried before a lost answer is an error.
const ATTEMPTS: u32 = 3;
/// The pause before what there is is looked at after a lost answer.
const PAUSE: Duration = Duration::from_secs(1);

struct Run<'a> {
    client: Client,
    deadline: Deadline,
    options: Options,
    task: Task,
    /// What the first attempt was to change.
    planned: OnceCell<Diff>,
    /// Whether the answer to a change was lost.
    lost: bool,
    /// What must hold for the VM's configuration before each write.
    guard: Option<&'a Guard<'a>>,
}

impl Run<'_> {
    async fn present(&self) -> Result<Outcome, Failure> {
        let Run {
            client,
            deadline,
            options,
            ..
        } = self;
        content::check_kind(options)?;
        let vmid = options.vmid;
        let Some(vm) = state::read_vm(client, &options.node, vmid, deadline).await? else {
            return Err(Failure::new("not_found", format!("there is no VM {vmid}"))
                .object(format!("VM {vmid}"))
                .hint("create it first (proxmox_nixos_vm), or check vmid and that the API user has VM.Audit on it"));
        };
        // Ansible's rules do not hold for other crates.
        let Some(storage) = options.storage.clone() else {
            return Err(Failure::new(
                "invalid_option",
                "storage: required with state=present",
            ));
        };
        let drive = state::drive(options.drive.as_deref(), Some(&vm), vmid)?;
        match options.kind {
            Kind::Nocloud => {
                let isos = self.storages(&vm.node, "iso").await?;
                if !isos.contains(&storage) {
                    return Err(unusable(&storage, &vm.node, "ISO images", &isos));
                }
                let dns = self.node_dns(&vm.node).await?;
                let seed = content::seed(options, &vm, dns)?;
                for warning in seed.warnings() {
                    self.task.warn(warning);
                }
                let bytes = seed.iso();
                let volid = Volid::iso(&storage, &seed.iso_name(vmid));
                // On every storage: a run that was to move the seed may have ended before it removed the old one.
                let seeds = self.seeds(&vm.node, &isos).await?;
                let wanted = Wanted::Nocloud {
                    volid: volid.clone(),
                    size: bytes.len() as u64,
                };
                let current = Current {
                    vm: Some(vm),
                    seeds,
                    password_hash: None,
                    stale: Vec::new(),
                    held: BTreeMap::new(),
                };
                self.finish(&drive, wanted, current, Some((seed, Iso { volid, bytes })))
                    .await
            }
            Kind::Native => {
                let content = content::native(options)?;
                let has_drive =
                    vm.next(&drive).map(|value| Vm::medium(value, vmid)) == Some(Medium::Native);
                let isos = self.storages(&vm.node, "iso").await?;
                let mut current = Current {
                    vm: None,
                    seeds: self.seeds(&vm.node, &isos).await?,
                    password_hash: None,
                    stale: Vec::new(),
                    held: BTreeMap::new(),
                };
                if has_drive {
                    current.stale = state::stale(client, &vm.node, vmid, deadline).await?;
                } else {
                    let images = self.storages(&vm.node, "images").await?;
                    if !images.contains(&storage) {
                        return Err(unusable(&storage, &vm.node, "disk images", &images));
                    }
                }
                if content.password.is_some() && vm.next("cipassword").is_some() {
                    current.password_hash =
                        state::password_hash(client, &vm.node, vmid, deadline).await?;
                }
                current.vm = Some(vm);
                self.finish(&drive, Wanted::Native { storage, content }, current, None)
                    .await
            }
        }
    }

    async fn absent(&self) -> Result<Outcome, Failure> {
        let Run {
            client,
            deadline,
            options,
            ..
        } = self;
        let vmid = options.vmid;
        let vm = state::read_vm(client, &options.node, vmid, deadline).await?;
        let drive = state::drive(options.drive.as_deref(), vm.as_ref(), vmid)?;
        let node = vm.as_ref().map_or(&options.node, |vm| &vm.node);
        let isos = self.storages(node, "iso").await?;
        // The storage of a native drive need not hold ISOs.
        if let Some(storage) = &options.storage
            && options.kind == Kind::Nocloud
            && !isos.contains(storage)
        {
            return Err(unusable(storage, node, "ISO images", &isos));
        }
        let seeds = self.seeds(node, &isos).await?;
        let current = Current {
            vm,
            seeds,
            password_hash: None,
            stale: Vec::new(),
            held: BTreeMap::new(),
        };
        self.finish(&drive, Wanted::Absent, current, None).await
    }

    /// The node's DNS settings if the guest is to have them, as it has on a native drive: one with a fixed address that is
    /// told of no name server would find no name at all.
    async fn node_dns(&self, node: &str) -> Result<Option<Dns>, Failure> {
        if self.options.network_config.is_some() || !content::lacks_dns(&self.options)? {
            return Ok(None);
        }
        let vmid = self.options.vmid;
        let problem = match state::dns(&self.client, node, &self.deadline).await {
            Ok(dns) if !dns.servers.is_empty() => return Ok(Some(dns)),
            Ok(_) => format!("node {node} has none that a guest can reach"),
            // A lack of privileges is not a reason to fail.
            Err(failure) if failure.status.is_some() => failure.msg,
            Err(failure) => return Err(failure),
        };
        self.task.warn(format!(
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
            match state::seeds(&self.client, node, vmid, storage, &self.deadline).await {
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
                Err(failure) => self.task.warn(format!(
                    "seeds of VM {vmid} on {storage}, if there are any, are not removed: {}",
                    failure.msg
                )),
            }
        }
        Ok(found)
    }

    /// The storages of the node that hold `content` and can be used now.
    async fn storages(&self, node: &str, content: &str) -> Result<Vec<String>, Failure> {
        let usable = state::usable_storages(&self.client, node, content, &self.deadline).await?;
        Ok(usable.into_iter().map(|storage| storage.storage).collect())
    }

    /// Plans, applies unless it is a check, and reports.
    async fn finish(
        &self,
        drive: &str,
        wanted: Wanted,
        current: Current,
        iso: Option<(Seed, Iso)>,
    ) -> Result<Outcome, Failure> {
        let vmid = &self.options.vmid;
        let mut current = current;
        let mut plan = Plan::new(*vmid, drive, &wanted, &current)?;
        if !plan.delete.is_empty() {
            current.held =
                state::held_elsewhere(&self.client, *vmid, &plan.delete, &self.deadline).await?;
            for (volid, other) in &current.held {
                self.task.warn(format!(
                    "{volid} stays on its storage, because VM {other} has it in a drive"
                ));
            }
            plan = Plan::new(*vmid, drive, &wanted, &current)?;
        }
        let current = current;
        let (seed, iso) = iso.unzip();
        let planned = || diff(*vmid, drive, &plan, &current, seed.as_ref());
        let diff = self.planned.get_or_init(planned).clone();
        let changed = !plan.is_empty() || self.lost;
        let node = current
            .vm
            .as_ref()
            .map_or(&self.options.node, |vm| &vm.node);

        let mut done = Vec::new();
        let mut restart_required = false;
        if changed && !self.task.check_mode {
            let place = Place {
                vm: GuardedVm {
                    client: &self.client,
                    node,
                    vmid: *vmid,
                    deadline: &self.deadline,
                    guard: self.guard.filter(|_| current.vm.is_some()),
                },
                drive,
            };
            let password = match &wanted {
                Wanted::Native { content, .. } => {
                    content.password.as_ref().map(|secret| secret.expose())
                }
                _ => None,
            };
            if let Err(failure) = apply(&place, plan, iso, password, &mut done).await {
                let changed = !done.is_empty() || self.lost;
                return Err(failure.with("changed", changed).with("done", done));
            }
        }
        let after = match self.task.check_mode || current.vm.is_none() || !changed {
            true => current.vm.clone(),
            false => state::read_vm(&self.client, node, *vmid, &self.deadline).await?,
        };
        if let Some(line) = after.as_ref().and_then(|vm| vm.config.get(drive)) {
            restart_required = line.now != line.next;
        }

        let what = match (&wanted, &current.vm) {
            (Wanted::Absent, None) => format!("VM {vmid} is gone"),
            (Wanted::Absent, Some(_)) => format!("VM {vmid} has no cloud-init drive"),
            (Wanted::Nocloud { volid, .. }, _) => {
                format!("VM {vmid} has the seed {volid} in {drive}")
            }
            (Wanted::Native { .. }, _) => {
                format!("VM {vmid} has a native cloud-init drive in {drive}")
            }
        };
        let mut outcome = match (changed, self.task.check_mode) {
            (false, _) => Outcome::unchanged(format!("{what}, as it should")),
            (true, true) => Outcome::changed(format!("would change: {what}")),
            (true, false) if done.is_empty() => Outcome::changed(format!(
                "{what}: the change was made although its answer was lost"
            )),
            (true, false) => Outcome::changed(format!("{what}: {}", done.join("; "))),
        };
        if changed {
            outcome = outcome.diff(diff);
        }
        let volid = match &wanted {
            Wanted::Nocloud { volid, .. } => Some(volid.to_string()),
            _ => after.as_ref().and_then(|vm| native_volid(vm, drive, *vmid)),
        };
        outcome = outcome
            .with("vmid", vmid)
            .with("drive", drive)
            .with("restart_required", restart_required);
        if let Some(volid) = volid {
            outcome = outcome.with("volid", volid);
        }
        if let Some(seed) = seed {
            outcome = outcome.with("instance_id", seed.instance_id());
        }
        Ok(outcome)
    }
}

/// The volume of a native drive.
fn native_volid(vm: &Vm, drive: &str, vmid: u32) -> Option<String> {
    let value = vm.next(drive)?;
    let volume = value.split(',').next()?;
    (Vm::medium(value, vmid) == Medium::Native).then(|| volume.to_owned())
}

fn unusable(storage: &str, node: &str, what: &str, usable: &[String]) -> Failure {
    let usable = match usable {
        [] => format!("no storage that node {node} can use now allows {what}"),
        some => format!(
            "storages for {what} that node {node} can use now: {}",
            some.join(", ")
        ),
    };
    Failure::new("storage", format!("storage {storage} cannot be used for {what} on node {node}"))
        .object(storage)
        .hint(format!(
            "{usable}; a storage is missing from that list if it is disabled, not active, does not allow {what} \
             (Datacenter, Storage, Content), or if the API user lacks Datastore.Audit on it"
        ))
}

/// What differs. Secrets are not in it: user-data and passwords only as "changed".
fn diff(vmid: u32, drive: &str, plan: &Plan, current: &Current, seed: Option<&Seed>) -> Diff {
    let next = |key: &str| current.vm.as_ref().and_then(|vm| vm.next(key));
    let shown = |key: &str, value: &str| match key {
        "cipassword" | "cicustom" => json!("(set)"),
        _ => json!(value),
    };
    let (mut before, mut after) = (Map::new(), Map::new());
    for key in plan.detach.iter().chain(&plan.clear).chain(plan.set.keys()) {
        if let Some(value) = next(key) {
            before.insert(key.clone(), shown(key, value));
        }
    }
    if let Some(medium) = &plan.attach {
        if let Some(value) = next(drive) {
            before.insert(drive.to_owned(), json!(value));
        }
        after.insert(drive.to_owned(), json!(format!("{medium},media=cdrom")));
    }
    for (key, value) in &plan.set {
        after.insert(key.clone(), shown(key, value));
    }
    if plan.set_password {
        if next("cipassword").is_some() {
            before.insert("cipassword".into(), json!("(set)"));
        }
        after.insert("cipassword".into(), json!("(set anew)"));
    }
    if plan.regenerate {
        after.insert("cloud-init drive".into(), json!("written anew"));
    }
    if !plan.delete.is_empty() {
        let volids: Vec<String> = plan.delete.iter().map(ToString::to_string).collect();
        before.insert("seed ISOs".into(), json!(volids));
    }
    if plan.upload
        && let Some(seed) = seed
    {
        let files: BTreeMap<String, Value> = seed
            .fingerprints()
            .into_iter()
            .map(|(name, sha256)| (name, json!(format!("sha256:{}", &sha256[..12]))))
            .collect();
        after.insert("uploaded".into(), json!(files));
    }
    Diff::new(before, after).header(format!("cloud-init drive of VM {vmid}"))
}
