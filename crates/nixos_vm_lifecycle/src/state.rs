//! What is: the VM, its record, what this controller keeps, and what answers at the address.

use std::time::Duration;

use ansible_module::Failure;
use deadline::Deadline;
use proxmox_nixos_vm::ownership::Ownership;
use pve_module::record::{Binding, Identity, Phase, Record};
use serde_json::{Map, Value, json};

use crate::cluster::{cluster, is_container, is_taken};
use crate::context::{Context, ssh_failed};
use crate::decide::decide;
use crate::error::StepError;
use crate::facts::{Answer, Decision, Elsewhere, Facts, Recorded, Vm};
use crate::fixed_variables::unchanged;
use crate::kept;
use crate::keys;
use crate::module_args::Args;
use crate::placement;
use crate::probe::Probe;
use crate::store::{Installation, Known};
use crate::vm_layout::{beside, layout, written};

/// How long the guest agent may take to report an address that it knows.
const PROMPT: Duration = Duration::from_secs(5);
/// How long the reads of one step may take.
const READ: Duration = Duration::from_secs(120);
/// How often it is looked whether a VM that is waited for was stopped.
const LOOK: Duration = Duration::from_secs(5);

/// An installation whose VM is gone.
pub struct Gone {
    /// Its directory.
    pub installation: Installation,
    /// What the controller knows of it.
    pub known: Known,
    /// Whether no other guest has its VMID by now.
    pub free: bool,
}

/// A machine as it is.
pub struct State {
    /// What the decision goes by.
    pub facts: Facts,
    /// The VM's values, as `proxmox_nixos_vm` returns them; none if there is no VM.
    pub vm: Option<Map<String, Value>>,
    /// The directory of the installation that the VM's record names.
    pub installation: Option<Installation>,
    /// The installations of this host whose VMs are gone.
    pub gone: Vec<Gone>,
    /// The record that the notes have lost, and that the controller knows.
    pub lost: Option<Record>,
    /// The node that was chosen for a VM that is not made yet.
    pub placed: Option<String>,
    /// What identifies the cluster.
    pub cluster: String,
}

impl State {
    /// Read it: the VM with the number `nixos_vm_vmid`, or of the name `nixos_vm_name` if that is not set.
    ///
    /// # Errors
    /// Those of the API.
    pub async fn read(context: &Context<'_>) -> Result<Self, Failure> {
        let deadline = Deadline::after(READ);
        let cluster = cluster(context, &deadline).await?;
        let settings = context.settings();
        let by = match settings.vmid {
            Some(vmid) => json!({"vmid": vmid}),
            None => json!({"name": settings.name}),
        };
        let found = look(context, by, settings.node.as_deref()).await?;
        let mut state = Self {
            facts: Facts {
                host: context.options.host.clone(),
                name: context.name(),
                adopt: settings.adopt,
                by_image: settings.by_image(),
                confirmed: settings.confirmed_reinstall(),
                vm: None,
                elsewhere: None,
                ended: false,
                busy: false,
                answer: Answer::NotAsked,
            },
            vm: None,
            installation: None,
            gone: Vec::new(),
            lost: None,
            placed: None,
            cluster,
        };
        match found {
            Some(vm) => {
                state.there(context, vm)?;
                state.count_writes(context, &deadline).await?;
            }
            None => state.missing(context, &deadline).await?,
        }
        Ok(state)
    }

    fn there(&mut self, context: &Context<'_>, vm: Map<String, Value>) -> Result<(), Failure> {
        let vmid = number(&vm, "vmid");
        let config = |key: &str| vm.get("config")?.get(key)?.as_str().map(str::to_owned);
        let identity = Identity::of(config("smbios1").as_deref(), config("vmgenid").as_deref());
        let notes = config("description").unwrap_or_default();
        // Notes that somebody wrote anew get their record back from the controller that made the VM. Who wants to adopt the machine has
        // removed the record on purpose.
        let noted = Record::find(&notes);
        let record = match noted {
            None => {
                self.lost = if self.facts.adopt {
                    None
                } else {
                    kept::latest(&context.store, vmid, &identity)
                };
                self.lost.clone()
            }
            noted => noted,
        };
        let name = vm.get("name").and_then(Value::as_str).unwrap_or_default();
        let object = format!("VM {vmid} ({name})");
        let ours = record.as_ref().is_some_and(|record| {
            record.host == context.options.host
                && record.binding(vmid, &identity) != Binding::Copied
        });
        if !ours {
            has_the_name(context, &object, name)?;
        }
        let mut kept = None;
        let reinstalled = kept::reinstallations(&context.store, vmid, &identity, record.as_ref());
        let recorded = match record {
            None => Recorded::None,
            Some(record) => {
                let installation = context.store.installation(&record.installation);
                // The end of a run that another one took over since says nothing of the disk as it is.
                let known = installation.known();
                kept = known.as_ref().map(|known| known.record.phase);
                self.facts.ended = installation.read("closure").is_some()
                    && known.is_some_and(|known| known.record.run == record.run);
                self.facts.busy = installation.busy();
                self.installation = Some(installation);
                match record.binding(vmid, &identity) {
                    Binding::Ours => Recorded::Ours(record),
                    Binding::RolledBack => Recorded::RolledBack(record),
                    Binding::Copied => Recorded::Copied(record),
                }
            }
        };
        if let Recorded::Ours(record) | Recorded::RolledBack(record) = &recorded {
            unchanged(context, &object, record, &identity)?;
        }
        self.facts.vm = Some(Vm {
            object,
            vmid,
            lost: self.lost.is_some(),
            unreadable: Record::is_unreadable(&notes),
            installing: reinstalled.installing,
            kept,
            counted: reinstalled.words,
            written: None,
            running: vm.get("status").and_then(Value::as_str) == Some("running"),
            template: vm.get("template") == Some(&Value::Bool(true)),
            record: recorded,
            layout: layout(context.settings(), vmid, &config),
            beside: beside(context.settings(), &vm, &reinstalled.volumes),
        });
        self.vm = Some(vm);
        Ok(())
    }

    /// Read how much was written to the boot disk of a machine that runs and has nothing on it yet. QEMU counts for each drive
    /// (`blockstat` in PVE::QemuServer::vmstatus).
    async fn count_writes(
        &mut self,
        context: &Context<'_>,
        deadline: &Deadline,
    ) -> Result<(), Failure> {
        let node = self.node(context);
        let Some(vm) = self.facts.vm.as_mut().filter(|vm| vm.running) else {
            return Ok(());
        };
        if !matches!(&vm.record, Recorded::Ours(record) if record.phase < Phase::Installing) {
            return Ok(());
        }
        let path = format!("/nodes/{node}/qemu/{}/status/current", vm.vmid);
        let what = format!("read the status of {}", vm.object);
        let status = context.get(&what, &path, &[], deadline).await?;
        vm.written = written(&status, &context.settings().boot_disk());
        Ok(())
    }

    /// No such VM: perhaps this controller knows the machine under another name.
    async fn missing(&mut self, context: &Context<'_>, deadline: &Deadline) -> Result<(), Failure> {
        for (installation, known) in context.store.all() {
            let record = &known.record;
            // A run that holds it is about to ask Proxmox VE for the VM.
            let others = known.cluster != self.cluster || record.host != context.options.host;
            if others || installation.held() {
                continue;
            }
            let vmid = record.vmid;
            let mut free = true;
            // Without a number its run ended before Proxmox VE was asked for the VM.
            if vmid != 0 {
                if let Some(vm) = look(context, json!({"vmid": vmid}), None).await? {
                    let config = |key: &str| vm.get("config")?.get(key)?.as_str();
                    let identity = Identity::of(config("smbios1"), config("vmgenid"));
                    if record.binding(vmid, &identity) != Binding::Copied {
                        let name = vm.get("name").and_then(Value::as_str).unwrap_or_default();
                        self.facts.elsewhere = Some(Elsewhere::Named {
                            vmid,
                            name: name.to_owned(),
                        });
                        return Ok(());
                    }
                    free = false;
                } else if is_taken(context, vmid, deadline).await? {
                    if is_container(context, vmid, deadline).await? {
                        free = false;
                    } else {
                        let kept = installation.dir().display().to_string();
                        self.facts.elsewhere = Some(Elsewhere::Hidden { vmid, kept });
                        return Ok(());
                    }
                }
            }
            self.gone.push(Gone {
                installation,
                known,
                free,
            });
        }
        Ok(())
    }

    /// Give the notes the record back that somebody removed. What it says of the VM was compared with the VM.
    ///
    /// # Errors
    /// Those of `proxmox_nixos_vm`.
    pub async fn restore(&self, context: &Context<'_>) -> Result<(), Failure> {
        // A reinstallation that this controller began may have ended elsewhere since.
        let kept = self
            .lost
            .clone()
            .filter(|record| record.phase != Phase::Reinstalling);
        let Some(record) = kept.filter(|_| !context.task.check_mode) else {
            return Ok(());
        };
        context.task.warn(format!(
            "{}: its notes had lost the record of its installation, which this controller wrote back",
            self.facts.vm.as_ref().map_or("", |vm| vm.object.as_str())
        ));
        let mut args = Args::new();
        args.insert("vmid".into(), record.vmid.into());
        args.insert("state".into(), "present".into());
        let ownership = Ownership {
            write: Some(record),
            unrecorded: true,
            ..Ownership::default()
        };
        context.vm(args, ownership, false).await.map(drop)
    }

    /// What it is called in messages: `VM 101 (web1)`, or as the variables name it before there is a VM.
    pub fn object(&self) -> &str {
        let vm = self.facts.vm.as_ref();
        vm.map_or(&self.facts.name, |vm| &vm.object)
    }

    /// The VM's notes, with the record in them.
    pub fn notes(&self) -> &str {
        let notes = self
            .vm
            .as_ref()
            .and_then(|vm| vm.get("config")?.get("description")?.as_str());
        notes.unwrap_or_default()
    }

    /// The VM's number.
    pub fn vmid(&self) -> u32 {
        self.facts.vm.as_ref().map_or(0, |vm| vm.vmid)
    }

    /// The node that it is on, or will be made on.
    pub fn node(&self, context: &Context<'_>) -> String {
        let on = self.vm.as_ref().and_then(|vm| vm.get("node")?.as_str());
        on.or(placement::named(context.settings()))
            .or(self.placed.as_deref())
            .unwrap_or_default()
            .to_owned()
    }

    /// What to ask the machine, by what its record and this controller know.
    ///
    /// # Errors
    /// Mistakes in the variables of jump hosts.
    pub fn probe(&self, context: &Context<'_>, address: String) -> Result<Probe, StepError> {
        let settings = context.settings();
        let record = self.facts.vm.as_ref().and_then(|vm| match &vm.record {
            Recorded::Ours(record) | Recorded::RolledBack(record) => Some(record),
            Recorded::None | Recorded::Copied(_) => None,
        });
        let local = |name: &str| {
            let installation = self.installation.as_ref()?;
            keys::public(installation, name)
        };
        let mut installed: Vec<String> = record
            .and_then(|record| record.host_key.clone())
            .into_iter()
            .collect();
        installed.extend(self.installation.iter().flat_map(keys::installed));
        installed.extend(keys::given_public(settings));
        installed.sort();
        installed.dedup();
        // Another controller may have begun this installation anew with an installer key of its own.
        let mut installer: Vec<String> = local(keys::INSTALLER).into_iter().collect();
        installer.extend(record.and_then(|record| record.installer_key.clone()));
        installer.dedup();
        Ok(Probe {
            jump: context.jump()?,
            host: address,
            port: settings.ssh_port,
            installer,
            installer_login: self
                .installation
                .as_ref()
                .map(|installation| installation.path(keys::CLIENT)),
            installed,
            user: settings.ssh_user.clone(),
            login: settings.ssh_private_key_file.clone(),
        })
    }

    /// Decide, asking what answers at the address if that matters.
    ///
    /// # Errors
    /// The refusals of [`decide`].
    pub async fn decide(&mut self, context: &Context<'_>) -> Result<Decision, Failure> {
        let mut decision = decide(&self.facts)?;
        if decision == Decision::Ask {
            // The run before may have been cut off while it stopped the VM, which then never answers.
            let answer = tokio::select! {
                answer = self.ask(context) => Some(answer),
                () = self.stopped(context) => None,
            };
            match (answer, &mut self.facts.vm) {
                (Some(answer), _) => self.facts.answer = answer?,
                (None, Some(vm)) => vm.running = false,
                (None, None) => {}
            }
            decision = decide(&self.facts)?;
        }
        Ok(decision)
    }

    /// Wait until the VM is stopped. Where that cannot be told, it is not.
    async fn stopped(&self, context: &Context<'_>) {
        let path = format!(
            "/nodes/{}/qemu/{}/status/current",
            self.node(context),
            self.vmid()
        );
        loop {
            tokio::time::sleep(LOOK).await;
            let deadline = Deadline::after(READ);
            let status = context
                .get("read the status of the VM", &path, &[], &deadline)
                .await;
            if status.is_ok_and(|status| status.get("status") == Some(&"stopped".into())) {
                return;
            }
        }
    }

    async fn ask(&self, context: &Context<'_>) -> Result<Answer, Failure> {
        let Some(vm) = &self.facts.vm else {
            return Ok(Answer::NotAsked);
        };
        let installing =
            matches!(&vm.record, Recorded::Ours(record) if record.phase == Phase::Installing);
        let deadline = context.boot_deadline();
        let soon = deadline.shorter(PROMPT);
        let address =
            match address(context, vm.vmid, if installing { &deadline } else { &soon }).await {
                Ok(address) => address,
                Err(failure) => return Ok(Answer::Silent(failure.msg)),
            };
        let probe = self.probe(context, address)?;
        let progress = context
            .task
            .progress(context.options.progress_path.as_deref());
        // An installer that boots right now, since the run that started it was cut off, is waited for.
        if installing && !context.task.check_mode {
            let answer = probe.wait(&deadline, |reason| {
                progress.emit(&json!({"event": "waiting", "host": probe.host, "reason": reason}));
            });
            return answer.await.map_err(ssh_failed);
        }
        probe.ask(&deadline).await.map_err(ssh_failed)
    }
}

/// Refuse a VM that was found by its number, and has another name than the variables say.
fn has_the_name(context: &Context<'_>, object: &str, name: &str) -> Result<(), StepError> {
    let settings = context.settings();
    let wanted = settings.name.as_deref().unwrap_or_default();
    if settings.vmid.is_none() || wanted.is_empty() || wanted.eq_ignore_ascii_case(name) {
        return Ok(());
    }
    Err(StepError::NameDiffers {
        object: object.to_owned(),
        wanted: wanted.to_owned(),
    })
}

/// The address of the machine: the one that is given, or what its guest agent reports.
///
/// # Errors
/// Those of `wait_for_address`.
pub async fn address(
    context: &Context<'_>,
    vmid: u32,
    deadline: &Deadline,
) -> Result<String, Failure> {
    if let Some(address) = context.settings().given_address() {
        return Ok(address);
    }
    let mut args = Args::new();
    args.insert("vmid".into(), vmid.into());
    args.insert("state".into(), "current".into());
    args.insert("wait_for_address".into(), true.into());
    args.insert(
        "address_family".into(),
        json!(context.settings().asked_family()),
    );
    args.insert("timeout".into(), whole_seconds(deadline).into());
    let outcome = context.vm(args, Ownership::default(), false).await?;
    let address = outcome
        .values
        .get("guest_agent")
        .and_then(|agent| agent.get("address")?.as_str());
    Ok(address.unwrap_or_default().to_owned())
}

/// Look for a VM; none if there is no such one.
async fn look(
    context: &Context<'_>,
    by: Value,
    node: Option<&str>,
) -> Result<Option<Map<String, Value>>, Failure> {
    let mut args = Args::new();
    args.extend(by.as_object().cloned().unwrap_or_default());
    args.insert("state".into(), "current".into());
    args.insert("timeout".into(), READ.as_secs().into());
    if let Some(node) = node.filter(|node| !node.is_empty()) {
        args.insert("node".into(), node.into());
    }
    let outcome = context.vm(args, Ownership::default(), true).await?;
    let exists = outcome.values.get("exists") == Some(&Value::Bool(true));
    Ok(exists.then_some(outcome.values))
}

/// A number among a VM's values.
pub fn number(values: &Map<String, Value>, key: &str) -> u32 {
    values
        .get(key)
        .and_then(Value::as_u64)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or_default()
}

/// The time that is left, in whole seconds and at least one, as the modules take it.
pub fn whole_seconds(deadline: &Deadline) -> u64 {
    deadline.remaining().as_secs_f64().ceil().max(1.0) as u64
}
