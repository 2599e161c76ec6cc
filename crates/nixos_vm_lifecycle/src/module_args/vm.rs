//! The options of `proxmox_nixos_vm`.

use pve_module::record::Phase;
use serde_json::{Map, Value, json};

use crate::module_args::further::Args;
use crate::options::{Power, Restart, Settings};
use crate::vm_layout::reaches_disks;

/// What a new VM gets where nothing is set.
const NEW: [(&str, &str); 4] = [
    ("cpu", "x86-64-v2-AES"),
    ("bios", "seabios"),
    ("scsihw", "virtio-scsi-single"),
    ("agent", "enabled=1"),
];
const NEW_MEMORY: u64 = 2048;
const NEW_CORES: u32 = 2;
const NEW_DISK_SIZE: u64 = 32;
/// The state of a machine that HA does not know.
const ABSENT: &str = "absent";

impl Settings {
    /// The memory of the installed machine in MiB.
    pub fn memory(&self) -> u64 {
        self.memory.unwrap_or(NEW_MEMORY)
    }

    /// The disks that are described, in the order in which a boot disk is looked for; one on SCSI if none is.
    pub(super) fn disks(&self) -> Vec<(&'static str, Map<String, Value>)> {
        let set = self.set();
        let mut disks: Vec<(&'static str, Map<String, Value>)> = ["scsi", "virtio", "sata"]
            .into_iter()
            .filter_map(|bus| {
                let disks = set.get(bus)?.as_object()?;
                (!disks.is_empty()).then(|| (bus, disks.clone()))
            })
            .collect();
        if disks.is_empty() {
            let size = self.disk_size.unwrap_or(NEW_DISK_SIZE);
            let disk = json!({"storage": self.disks_storage, "size": format!("{size}G")});
            disks.push(("scsi", Map::from_iter([("scsi0".to_owned(), disk)])));
        }
        disks
    }

    /// The keys of the disks.
    pub fn described(&self) -> Vec<String> {
        self.disks()
            .into_iter()
            .flat_map(|(_, disks)| disks.into_iter().map(|(key, _)| key))
            .collect()
    }

    /// The keys of the disks that the user describes, one by one.
    pub fn described_by_user(&self) -> Vec<String> {
        let set = self.set();
        let groups = ["ide", "scsi", "virtio", "sata"].into_iter();
        let disks = groups.filter_map(|bus| set.get(bus)?.as_object());
        let is_disk = |value: &Value| !value.is_null() && !value.to_string().contains("cdrom");
        let keys = disks.flatten().filter(|(_, value)| is_disk(value));
        keys.map(|(key, _)| key.clone()).collect()
    }

    /// The disk that NixOS is installed onto: the one that is named, or the one with the lowest number of the first bus.
    pub fn boot_disk(&self) -> String {
        if let Some(disk) = &self.boot_disk {
            return disk.clone();
        }
        let disks = self.disks();
        let number = |key: &str| {
            let digits = key.trim_start_matches(|c: char| !c.is_ascii_digit());
            digits.parse::<u32>().unwrap_or(u32::MAX)
        };
        let first = disks
            .first()
            .and_then(|(_, disks)| disks.keys().min_by_key(|key| number(key)));
        first.cloned().unwrap_or_else(|| "scsi0".into())
    }

    /// Whether the boot disk is described as a new one, rather than as a volume that exists.
    pub fn boot_disk_is_new(&self) -> bool {
        if self
            .set()
            .get("clone")
            .is_some_and(|clone| !clone.is_null())
        {
            return false;
        }
        let key = self.boot_disk();
        let disks = self.disks();
        let disk = disks.iter().find_map(|(_, disks)| disks.get(&key));
        match disk {
            Some(Value::String(text)) => {
                let volume = text.split(',').next().unwrap_or_default();
                volume.split_once(':').is_some_and(|(storage, size)| {
                    !storage.is_empty()
                        && !size.is_empty()
                        && size.bytes().all(|b| b.is_ascii_digit() || b == b'.')
                })
            }
            Some(Value::Object(disk)) => {
                let has = |key: &str| disk.get(key).is_some_and(|value| !value.is_null());
                has("storage") && !has("import_from") && !has("import-from")
            }
            _ => false,
        }
    }

    /// The boot order while the machine is in `phase`. Until something was written to the disk it comes first, and falls through to the
    /// installer. A disk that may be half written must not be booted: then the installer comes first.
    pub fn boot_order(&self, phase: Phase) -> String {
        let (disk, installer) = (self.boot_disk(), &self.installer_drive);
        match phase {
            _ if self.by_image() => format!("order={disk}"),
            Phase::Creating | Phase::Provisioning => format!("order={disk};{installer}"),
            Phase::Installing | Phase::Reinstalling => format!("order={installer};{disk}"),
            Phase::Installed | Phase::Done | Phase::Adopted => format!("order={disk}"),
        }
    }

    /// The options of a Proxmox VE VM that are given by their own names.
    pub fn config(&self) -> Args {
        let set = self.set();
        let config = set.get("config").and_then(Value::as_object);
        config.cloned().unwrap_or_default()
    }

    /// The drives of the boot disk, the installer and the seed, as the record has them.
    pub fn drives(&self) -> String {
        format!(
            "{}/{}/{}",
            self.boot_disk(),
            self.installer_drive,
            self.seed_drive
        )
    }

    /// The options of a VM that the user set, whatever its phase.
    fn set(&self) -> Args {
        let mut args = Args::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                args.insert(key.to_owned(), value);
            }
        };
        put("memory", self.memory.map(Value::from));
        put("cores", self.cores.map(Value::from));
        put("sockets", self.sockets.map(Value::from));
        put("cpu", self.cpu.clone().map(Value::from));
        put("bios", self.bios.clone().map(Value::from));
        put("machine", self.machine.clone().map(Value::from));
        put("efidisk0", self.efidisk0.clone());
        put("tpmstate0", self.tpmstate0.clone());
        put("agent", self.agent.clone().map(Value::from));
        put("serial", self.serial.as_ref().map(|value| json!(value)));
        put("scsihw", self.scsihw.clone().map(Value::from));
        put("scsi", self.scsi.as_ref().map(|value| json!(value)));
        put("virtio", self.virtio.as_ref().map(|value| json!(value)));
        put("sata", self.sata.as_ref().map(|value| json!(value)));
        put("net", self.net.as_ref().map(|value| json!(value)));
        put("onboot", self.onboot.map(Value::from));
        put("tags", self.tags.as_ref().map(|value| json!(value)));
        put("description", self.description.clone().map(Value::from));
        put("config", self.config.as_ref().map(|value| json!(value)));
        put("pool", self.pool.clone().map(Value::from));
        args.extend(self.further().vm);
        args
    }

    /// The whole description of a machine of ours in `phase`. `source` is where its system comes from, before the end of the
    /// installation: the ISO in the installer's drive, or the disk image.
    pub fn vm(&self, phase: Phase, source: Option<&str>) -> Args {
        let mut args = self.set();
        let mut default = |key: &str, value: Value| {
            args.entry(key.to_owned()).or_insert(value);
        };
        for (key, value) in NEW {
            default(key, value.into());
        }
        default("cores", NEW_CORES.into());
        default("ostype", "l26".into());
        default("serial", json!({"serial0": "socket"}));
        default("net", json!({"net0": "virtio,bridge=vmbr0"}));
        default("onboot", true.into());
        for (bus, disks) in self.disks() {
            default(bus, Value::Object(disks));
        }
        if args.get("bios").and_then(Value::as_str) == Some("ovmf")
            && !args.contains_key("efidisk0")
        {
            // Without it OVMF forgets its boot entries with every stop.
            args.insert(
                "efidisk0".into(),
                json!({"storage": self.disks_storage, "size": "1G", "efitype": "4m"}),
            );
        }
        let memory = if phase.unfinished() && !self.by_image() {
            self.install_memory.unwrap_or(self.memory())
        } else {
            self.memory()
        };
        args.insert("memory".into(), memory.into());
        args.insert("boot".into(), self.boot_order(phase).into());
        match source {
            Some(image) if self.by_image() => self.import_image(&mut args, image),
            installer => self.attach_installer(&mut args, installer),
        }
        if phase.unfinished() {
            // Its drives come and go until it is finished.
            unprotect(&mut args);
            // The record names the volume.
            args.shift_remove("move_disks");
            // It would start the machine, or stop it, in the middle.
            args.shift_remove("ha");
        }
        args.extend(self.identity());
        args
    }

    /// A new VM as a check sees it, before its installer is on the storage: a boot order that names the installer's drive wants the drive.
    /// What HA shall do with it in the end is checked now.
    pub fn vm_without_installer(&self) -> Args {
        let mut args = self.vm(Phase::Provisioning, None);
        args.extend(high_availability(self, true).map(|ha| ("ha".to_owned(), ha)));
        args.insert("boot".into(), self.boot_order(Phase::Done).into());
        args
    }

    /// What a machine that is being installed anew is converged to: what the user set, but for its other disks, which are detached, and for
    /// devices through which the installer could reach a disk; once it is installed, these too. What was set by hand stays, as with a
    /// finished machine.
    pub fn reinstalled(&self, phase: Phase, installer: Option<&str>) -> Args {
        let mut args = self.set();
        if let (Some(_), Some(lent)) = (self.memory, self.install_memory)
            && matches!(phase, Phase::Reinstalling | Phase::Installing)
        {
            args.insert("memory".into(), lent.into());
        }
        args.insert("boot".into(), self.boot_order(phase).into());
        let boot_disk = self.boot_disk();
        // The installer has gone, and the disks are attached again.
        let is_installed = phase == Phase::Installed;
        let stays = |key: &String, value: &Value| match pve_schema::is_drive(key) {
            _ if is_installed => true,
            true => {
                pve_schema::is_state_disk(key)
                    || [&boot_disk, &self.installer_drive, &self.seed_drive].contains(&key)
            }
            false => !reaches_disks(key, value.as_str().unwrap_or_default()),
        };
        args.retain(|key, value| stays(key, value));
        for group in ["ide", "scsi", "virtio", "sata", "hostpci", "usb", "config"] {
            if let Some(options) = args.get_mut(group).and_then(Value::as_object_mut) {
                options.retain(|key, value| stays(key, value));
            }
        }
        self.attach_installer(&mut args, installer);
        unprotect(&mut args);
        args.shift_remove("move_disks");
        // HA knew the machine perhaps, and would start it, or stop it, in the middle.
        match args.shift_remove("ha") {
            Some(Value::Object(ha)) if !is_installed && ha.get("state") != Some(&ABSENT.into()) => {
                args.insert("ha".into(), json!({"state": "ignored"}));
            }
            _ => {}
        }
        args.extend(self.identity());
        args
    }

    /// Put the installer ISO into its drive.
    fn attach_installer(&self, args: &mut Args, installer: Option<&str>) {
        let Some(installer) = installer else {
            return;
        };
        let drive = Value::String(format!("{installer},media=cdrom"));
        let bus = bus_of(&self.installer_drive).to_owned();
        let drives = args.entry(bus).or_insert_with(|| json!({}));
        if let Some(drives) = drives.as_object_mut() {
            drives.insert(self.installer_drive.clone(), drive);
        }
    }

    /// What a finished or adopted machine is converged to: only what the user set. `has` says whether its configuration has a key.
    pub fn finished(&self, phase: Phase, has: impl Fn(&str) -> bool) -> Args {
        let mut args = self.set();
        let described = ["scsi", "virtio", "sata"]
            .iter()
            .any(|bus| args.contains_key(*bus));
        // The size alone is that of the disk which the role makes; an adopted machine may have none of that name.
        if !described && self.disk_size.is_some() && (phase != Phase::Adopted || has("scsi0")) {
            for (bus, disks) in self.disks() {
                args.insert(bus.to_owned(), Value::Object(disks));
            }
        }
        args.extend(self.identity());
        let state = match self.state {
            Some(Power::Stopped) => "stopped",
            None if phase == Phase::Adopted => "present",
            Some(Power::Started) | None => "started",
        };
        args.insert("state".into(), state.into());
        args.insert("restart".into(), (self.restart == Restart::IfNeeded).into());
        if !self.remove_disks.is_empty() {
            args.insert("remove_disks".into(), json!(self.remove_disks));
        }
        args
    }

    /// The options that say which VM it is.
    pub fn identity(&self) -> Args {
        let mut args = Args::new();
        let name = self.name.clone().filter(|name| !name.is_empty());
        args.extend(name.map(|name| ("name".into(), name.into())));
        args.extend(self.vmid.map(|vmid| ("vmid".into(), vmid.into())));
        args.extend(
            self.vmid_range
                .clone()
                .map(|range| ("vmid_range".into(), range.into())),
        );
        let node = self.node.clone().filter(|node| !node.is_empty());
        args.extend(node.map(|node| ("node".into(), node.into())));
        args
    }
}

/// The bus of a drive: `ide` of `ide2`.
pub fn bus_of(drive: &str) -> &str {
    drive.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// The high availability that the user wants of the machine, once it is finished. With `state` it says so of its state too, which
/// it may leave out: HA leaves a machine alone that is installed anew.
pub fn high_availability(settings: &Settings, state: bool) -> Option<Value> {
    let mut ha = settings.set().get("ha")?.clone();
    if let Some(ha) = ha.as_object_mut()
        && state
        && ha.get("state").is_none_or(Value::is_null)
    {
        let state = match settings.state {
            Some(Power::Stopped) => "stopped",
            Some(Power::Started) | None => "started",
        };
        ha.insert("state".into(), state.into());
    }
    (!ha.is_null()).then_some(ha)
}

fn unprotect(args: &mut Args) {
    if args.contains_key("protection") {
        args.insert("protection".into(), false.into());
    }
    if let Some(config) = args.get_mut("config").and_then(Value::as_object_mut)
        && config.contains_key("protection")
    {
        config.insert("protection".into(), false.into());
    }
}

/// Whether the user wants the finished machine protected.
pub fn protection(settings: &Settings) -> Option<Value> {
    let set = settings.set();
    let config = set
        .get("config")
        .and_then(|config| config.get("protection"));
    set.get("protection").or(config).cloned()
}
