//! The options, brought into PVE's terms: what the VM's configuration shall say.

use std::collections::{BTreeMap, BTreeSet};

use pve_client::property::{self, PropertyString};
use pve_module::record::Record;
use serde_json::Value;

use crate::config::drive;
use crate::config::drive::Drive;
use crate::config::known_options;
use crate::config::nic;
use crate::config::nic::Nic;
use crate::config::normalise;
use crate::config::property_strings;
use crate::config::text;
use crate::config::validation;
use crate::guard::Guard;
use crate::guard::ownership::Ownership;
use crate::options::Clone;
use crate::options::Options;
use crate::options::State;

/// What the VM's configuration shall say. Only what is in here is managed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Desired {
    /// Plain options; none removes the option.
    pub plain: BTreeMap<String, Option<String>>,
    /// Drives.
    pub drives: BTreeMap<String, Drive>,
    /// Network cards; none removes the card.
    pub nics: BTreeMap<String, Option<Nic>>,
    /// The boot order, as PVE writes it.
    pub boot: Option<String>,
    /// The pool.
    pub pool: Option<String>,
    /// Drives to remove.
    pub remove: BTreeSet<String>,
    /// Whether the volumes of removed disks are deleted.
    pub delete_volumes: bool,
    /// Whether disks on other storages are moved.
    pub move_disks: bool,
    /// What the tags and the record of the VM must be, so that it is touched.
    pub guard: Guard,
    /// The record to write into the notes. Its VMID is 0 until that of a new VM is known.
    pub record: Option<Record>,
    /// Whether the tags are added to those that there are.
    pub add_tags: bool,
    /// Whether the VM must be a new one.
    pub new: bool,
    /// Whether the name renames the VM that the VMID means.
    pub rename: bool,
}

/// Names that the API takes beside a VM's configuration, and ones that other options or modules are for.
const NOT_CONFIG: [(&str, &str); 29] = [
    ("archive", "restoring a backup is not done by this module"),
    ("background_delay", "it is not a part of the configuration"),
    (
        "bootdisk",
        "it is PVE's legacy form; use boot, for example boot: order=scsi0",
    ),
    ("bwlimit", "PVE takes it for restoring a backup only"),
    ("cdrom", "use ide with ide2"),
    ("cipassword", "use the module cloudinit_drive"),
    ("delete", "give the option as null"),
    ("digest", "the module sends it itself"),
    ("force", "use the option force"),
    (
        "ha-managed",
        "PVE takes it only while it creates a VM; use ha-manager add vm:VMID, or the module community.proxmox.proxmox_cluster_ha_resources",
    ),
    ("import-working-storage", "PVE takes it for imports only"),
    ("live-restore", "PVE takes it for restoring a backup only"),
    ("lock", "only PVE sets it"),
    ("meta", "only PVE sets it"),
    ("name", "use the option name"),
    ("node", "use the option node"),
    ("parent", "only PVE sets it"),
    ("pool", "use the option pool"),
    ("revert", "it is not a part of the configuration"),
    ("skiplock", "it is not a part of the configuration"),
    ("snaptime", "only PVE sets it"),
    ("sshkeys", "use the module cloudinit_drive"),
    ("start", "use state=started"),
    ("storage", "name the storage in each drive"),
    ("tags", "use the option tags"),
    ("template", "use state=template"),
    ("unique", "it is not a part of the configuration"),
    ("vmid", "use the option vmid"),
    ("vmstate", "only PVE sets it"),
];

impl Desired {
    /// Bring the options into PVE's terms. The error names every mistake.
    pub fn from_options(options: &Options) -> Result<Self, String> {
        let mut desired = Builder::default();
        match Guard::from_options(options) {
            Ok(guard) => desired.desired.guard = guard,
            Err(mistakes) => desired.mistakes.push(mistakes),
        }
        desired.typed(options);
        desired.devices(options);
        desired.config(options);
        desired.removals(options);
        desired.clone_of(options);
        desired.contradictions(options);
        desired.refuse_legacy_boot();
        desired.refuse_not_on_machine();
        desired.finish()
    }

    /// The same, with what the lifecycle of an installation asks for.
    pub fn owned(mut self, ownership: Ownership) -> Self {
        self.guard = self
            .guard
            .with_record(ownership.expect, ownership.unrecorded);
        self.record = ownership.write;
        self.add_tags = ownership.add_tags;
        self.new = ownership.new;
        self.rename = ownership.rename;
        self
    }

    /// The record to write for the VM with this number.
    pub fn record_for(&self, vmid: u32) -> Option<Record> {
        let mut record = self.record.clone()?;
        if record.vmid == 0 {
            record.vmid = vmid;
        }
        Some(record)
    }

    /// Whether hardware is described, so that a VM made of it would be meant.
    pub fn describes_hardware(&self) -> bool {
        !self.drives.is_empty()
            || self.nics.values().any(Option::is_some)
            || self.plain.contains_key("memory")
    }
}

#[derive(Default)]
struct Builder {
    desired: Desired,
    mistakes: Vec<String>,
    /// A boot order in PVE's legacy form.
    legacy_boot: Option<String>,
}

impl Builder {
    fn finish(self) -> Result<Desired, String> {
        if self.mistakes.is_empty() {
            Ok(self.desired)
        } else {
            Err(self.mistakes.join("; "))
        }
    }

    fn typed(&mut self, options: &Options) {
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        let flag = |on: Option<bool>| on.map(|on| String::from(if on { "1" } else { "0" }));
        let plain = [
            ("name", options.name.clone()),
            ("memory", number(options.memory)),
            ("balloon", number(options.balloon)),
            ("cores", number(options.cores.map(u64::from))),
            ("sockets", number(options.sockets.map(u64::from))),
            ("numa", flag(options.numa)),
            ("bios", options.bios.clone()),
            ("arch", options.arch.clone()),
            ("ostype", options.ostype.clone()),
            ("scsihw", options.scsihw.clone()),
            ("tablet", flag(options.tablet)),
            ("hotplug", options.hotplug.as_deref().map(boolean_or_text)),
            ("onboot", flag(options.onboot)),
            ("description", options.description.clone()),
            ("protection", flag(options.protection)),
        ];
        if let Some(name) = options.name.as_deref().filter(|name| !is_dns_name(name)) {
            let hint = match name.replace('_', "-") {
                dashed if name.contains('_') && is_dns_name(&dashed) => format!(
                    "; PVE does not take '_', so write for example '{dashed}', or in a play \"{{{{ inventory_hostname | replace('_', '-') }}}}\""
                ),
                _ => String::new(),
            };
            self.mistakes.push(format!(
                "name: '{name}' is not a DNS name: parts of at most 63 letters, digits and hyphens, joined by dots, \
                 253 in all{hint}"
            ));
        }
        for (name, value) in plain {
            if let Some(value) = value {
                self.plain(name, value);
            }
        }
        for (name, value) in [
            ("cpu", &options.cpu),
            ("machine", &options.machine),
            ("agent", &options.agent),
            ("vga", &options.vga),
            ("rng0", &options.rng0),
            ("startup", &options.startup),
        ] {
            if let Some(value) = value {
                self.structured(name, value);
            }
        }
        if let Some(tags) = &options.tags {
            // An item that holds several would set tags that nobody who checked the list has seen.
            let mut all: BTreeSet<String> = self
                .desired
                .guard
                .own()
                .map(str::to_owned)
                .into_iter()
                .collect();
            for given in tags.iter().map(|tag| tag.trim().to_lowercase()) {
                match validation::tag(&given) {
                    _ if given.is_empty() => {}
                    Ok(()) => {
                        all.insert(given);
                    }
                    Err(mistake) => self.mistakes.push(format!("tags: {mistake}")),
                }
            }
            let text = all.into_iter().collect::<Vec<_>>().join(";");
            self.plain("tags", text);
        }
        if let Some(boot) = &options.boot {
            self.boot(boot);
        }
        if options.pool.as_deref() == Some("") {
            self.mistakes.push("pool is empty".into());
        }
        self.desired.pool.clone_from(&options.pool);
    }

    fn devices(&mut self, options: &Options) {
        for (bus, drives) in [
            ("scsi", &options.scsi),
            ("virtio", &options.virtio),
            ("sata", &options.sata),
            ("ide", &options.ide),
        ] {
            for (key, value) in drives.iter().flatten() {
                if key.strip_prefix(bus).is_some_and(text::is_index) {
                    self.drive(key, value);
                } else {
                    self.mistakes.push(format!(
                        "{bus}: '{key}' is no drive; write {bus}0, {bus}1, ..."
                    ));
                }
            }
        }
        for (key, value) in [
            ("efidisk0", &options.efidisk0),
            ("tpmstate0", &options.tpmstate0),
        ] {
            if let Some(value) = value {
                self.drive(key, value);
            }
        }
        for (key, value) in options.net.iter().flatten() {
            if nic::is_key(key) {
                self.nic(key, value);
            } else {
                self.mistakes.push(format!(
                    "net: '{key}' is no network card; write net0, net1, ..."
                ));
            }
        }
        for (kind, devices) in [
            ("serial", &options.serial),
            ("hostpci", &options.hostpci),
            ("usb", &options.usb),
        ] {
            for (key, value) in devices.iter().flatten() {
                if key.strip_prefix(kind).is_some_and(text::is_index) {
                    self.structured(key, value);
                } else {
                    self.mistakes.push(format!(
                        "{kind}: '{key}' is no device; write {kind}0, {kind}1, ..."
                    ));
                }
            }
        }
    }

    fn config(&mut self, options: &Options) {
        for (key, value) in options.config.iter().flatten() {
            if let Some((_, instead)) = NOT_CONFIG.iter().find(|(name, _)| name == key) {
                self.mistakes
                    .push(format!("config: {key} cannot be set here: {instead}"));
            } else if self.knows(key) {
                self.mistakes.push(format!(
                    "config: {key} is described by an option of its own too; give it once"
                ));
            } else if key.starts_with("unused") {
                self.mistakes.push(format!(
                    "config: {key} cannot be set; remove_disks removes it"
                ));
            } else if let Err(mistake) = known_options::known(key) {
                self.mistakes.push(format!("config: {key} {mistake}"));
            } else if drive::is_key(key) && value.is_null() {
                self.mistakes
                    .push(format!("config: {key} is a drive; remove_disks removes it"));
            } else if drive::is_key(key) {
                self.drive(key, value);
            } else if nic::is_key(key) {
                self.nic(key, value);
            } else if key == "boot" {
                self.boot(value);
            } else if value.is_null() {
                self.desired.plain.insert(key.clone(), None);
            } else {
                self.structured(key, value);
            }
        }
    }

    fn removals(&mut self, options: &Options) {
        self.desired.delete_volumes = options.delete_disks;
        self.desired.move_disks = options.move_disks;
        for key in &options.remove_disks {
            let unused = key.strip_prefix("unused").is_some_and(text::is_index);
            if !unused && !drive::is_key(key) {
                self.mistakes.push(format!(
                    "remove_disks: '{key}' is no drive; write for example ide2 or scsi1"
                ));
            } else if unused && !options.delete_disks {
                self.mistakes.push(format!(
                    "remove_disks: {key} is detached already; set delete_disks to delete its volume"
                ));
            } else if self.desired.drives.contains_key(key) {
                self.mistakes
                    .push(format!("{key} is described and in remove_disks"));
            } else {
                self.desired.remove.insert(key.clone());
            }
        }
    }

    /// Options that mean nothing as they are, or not together.
    fn contradictions(&mut self, options: &Options) {
        if let Some(vmid) = options.vmid.filter(|vmid| *vmid < 100) {
            self.mistakes
                .push(format!("vmid is {vmid}; PVE's VMIDs begin at 100"));
        }
        if let (Some(balloon), Some(memory)) = (options.balloon, options.memory)
            && balloon > memory
        {
            self.mistakes.push(format!(
                "balloon: must be at most memory, {memory} MiB (got {balloon})"
            ));
        }
        if options.migrate && options.node.is_none() {
            self.mistakes
                .push("migrate needs node, the node that the VM shall be on".into());
        }
        let ends_as = match options.state {
            State::Stopped => "stopped",
            State::Template => "a template",
            State::Absent => "absent",
            State::Present | State::Started | State::Restarted | State::Current => return,
        };
        if options.wait_for_address {
            self.mistakes.push(format!(
                "wait_for_address is for a VM that runs, and with this state it will be {ends_as}"
            ));
        }
    }

    fn clone_of(&mut self, options: &Options) {
        let Some(clone) = options.clone.as_ref().map(Clone::of) else {
            return;
        };
        if clone.name.is_some() == clone.vmid.is_some() {
            self.mistakes
                .push("clone: give either the name or the vmid of the template".into());
        }
        if !clone.full && (clone.storage.is_some() || clone.format.is_some()) {
            self.mistakes.push(
                "clone: storage and format are for full clones; a linked one is where its template is".into(),
            );
        }
    }

    fn knows(&self, key: &str) -> bool {
        self.desired.plain.contains_key(key)
            || self.desired.drives.contains_key(key)
            || self.desired.nics.contains_key(key)
            || (key == "boot" && self.desired.boot.is_some())
    }

    /// An empty text removes the option: PVE does not keep empty ones.
    fn plain(&mut self, name: &str, value: String) {
        let value = match normalise::is_boolean(name).then(|| property::parse_bool(&value)) {
            Some(Some(on)) => String::from(if on { "1" } else { "0" }),
            Some(None) => {
                self.mistakes
                    .push(format!("{name} is a boolean, not '{value}'"));
                return;
            }
            None => value,
        };
        let checked = validation::device(name).and_then(|()| validation::value(name, &value));
        self.mistakes.extend(checked.err());
        let value = (!value.is_empty()).then_some(value);
        self.desired.plain.insert(name.to_owned(), value);
    }

    /// An option that PVE has a text for and that may be given as a dict.
    fn structured(&mut self, name: &str, value: &Value) {
        match property_strings::option_text(name, value) {
            Ok(text) if name == "agent" => self.plain(name, boolean_or_text(&text)),
            Ok(text) => self.plain(name, text),
            Err(mistake) => self.mistakes.push(mistake),
        }
    }

    fn drive(&mut self, key: &str, value: &Value) {
        self.mistakes.extend(validation::device(key).err());
        match Drive::parse(key, value) {
            Ok(drive) => {
                self.desired.drives.insert(key.to_owned(), drive);
            }
            Err(mistake) => self.mistakes.push(mistake),
        }
    }

    fn nic(&mut self, key: &str, value: &Value) {
        self.mistakes.extend(validation::device(key).err());
        if value.is_null() {
            self.desired.nics.insert(key.to_owned(), None);
            return;
        }
        let parsed = Nic::parse(key, value);
        match parsed.and_then(|nic| nic.checked().map_err(|problem| format!("{key}: {problem}"))) {
            Ok(nic) => {
                self.desired.nics.insert(key.to_owned(), Some(nic));
            }
            Err(mistake) => self.mistakes.push(mistake),
        }
    }

    fn boot(&mut self, given: &Value) {
        let items = given
            .as_array()
            .map(|items| items.iter().map(text::scalar).collect::<Option<Vec<_>>>());
        let boot = match items {
            Some(devices) => devices.map(|devices| devices.join(";")),
            None => text::scalar(given),
        };
        let Some(boot) = boot else {
            let example = "expected text such as order=scsi0;net0, or a list of devices";
            return self.mistakes.push(format!("boot: {example} (got {given})"));
        };
        if let Err(mistake) = validation::value("boot", &boot) {
            return self.mistakes.push(mistake);
        }
        let boot = boot.trim();
        let letters = boot.strip_prefix("legacy=").unwrap_or(boot);
        let is_letter = |b: u8| b"acdn".contains(&b);
        let legacy = letters.len() < boot.len()
            || boot.bytes().any(is_letter)
                && boot.bytes().all(|b| is_letter(b) || b";, ".contains(&b));
        if legacy {
            self.legacy_boot = Some(boot.to_owned());
            return;
        }
        let devices = boot.strip_prefix("order=").unwrap_or(boot);
        let devices: Vec<&str> = devices
            .split([';', ',', ' '])
            .filter(|device| !device.is_empty())
            .collect();
        if let Some(twice) = devices
            .iter()
            .enumerate()
            .find(|(n, device)| devices[..*n].contains(device))
        {
            self.mistakes
                .push(format!("boot: {} is named twice", twice.1));
        }
        self.desired.boot = Some(normalise::boot_text(&devices));
    }

    /// PVE's letters for kinds of devices, of which `c` means the disk that another legacy option names: a VM without that boots none.
    fn refuse_legacy_boot(&mut self) {
        let Some(boot) = self.legacy_boot.take() else {
            return;
        };
        let letters = boot.strip_prefix("legacy=").unwrap_or(&boot);
        let first = |is: &dyn Fn(&Drive) -> bool| {
            let drives = self.desired.drives.iter();
            let mut drives = drives.filter(|(key, drive)| !drive::is_state_disk(key) && is(drive));
            drives.next().map(|(key, _)| key.clone())
        };
        let devices: Vec<String> = letters
            .chars()
            .filter_map(|letter| match letter {
                'c' => Some(first(&|drive| !drive.is_cdrom()).unwrap_or_else(|| "scsi0".into())),
                'd' => first(&|drive| drive.is_cdrom()),
                'n' => Some(
                    self.desired
                        .nics
                        .keys()
                        .next()
                        .cloned()
                        .unwrap_or_else(|| "net0".into()),
                ),
                _ => None,
            })
            .collect();
        self.mistakes.push(format!(
            "boot: '{boot}' is PVE's legacy form, which boots only a disk that bootdisk names; write {}",
            normalise::boot_text(&devices)
        ));
    }

    /// IDE drives that the described machine does not have: QEMU would refuse to start it.
    fn refuse_not_on_machine(&mut self) {
        let plain = |name: &str| {
            self.desired
                .plain
                .get(name)
                .and_then(Option::as_deref)
                .unwrap_or_default()
        };
        let (machine, arch) = (plain("machine"), plain("arch"));
        let mistakes: Vec<String> = self
            .desired
            .drives
            .keys()
            .chain(self.desired.plain.keys())
            .filter_map(|key| {
                Some(format!(
                    "{key}: {}",
                    not_on_machine(key, Some(machine), Some(arch))?
                ))
            })
            .collect();
        self.mistakes.extend(mistakes);
        self.refuse_missing_pcie();
    }

    /// PVE does not start a VM that has a PCI Express device and another machine than q35 or virt.
    fn refuse_missing_pcie(&mut self) {
        let Some(Some(machine)) = self.desired.plain.get("machine") else {
            return;
        };
        if !normalise::machine_type(machine).starts_with("pc") || machine.contains("q35") {
            return;
        }
        let pcie = |text: &str| {
            let parts = PropertyString::parse(text, Some("host"));
            parts.is_ok_and(|parts| parts.get("pcie").and_then(property::parse_bool) == Some(true))
        };
        let devices = self.desired.plain.iter().filter(|(key, value)| {
            key.starts_with("hostpci") && value.as_deref().is_some_and(pcie)
        });
        let mistakes: Vec<String> = devices
            .map(|(key, _)| format!("{key}: pcie needs the machine q35 (got '{machine}')"))
            .collect();
        self.mistakes.extend(mistakes);
    }
}

/// Why a machine does not have the drive `key`, or its architecture not the machine, if that is so.
pub fn not_on_machine(
    key: &str,
    machine: Option<&str>,
    arch: Option<&str>,
) -> Option<&'static str> {
    let machine = normalise::machine_type(machine.unwrap_or_default());
    if key == "machine" && arch == Some("aarch64") && machine.starts_with(['p', 'q']) {
        return Some("an aarch64 machine is virt; leave it out, or write virt");
    }
    if !key.strip_prefix("ide").is_some_and(text::is_index) {
        return None;
    }
    if arch == Some("aarch64") || machine.starts_with("virt") {
        Some("an aarch64 machine (virt) has no IDE; use scsi, for example scsi1")
    } else if machine.contains("q35") && !["ide0", "ide2"].contains(&key) {
        Some("a q35 machine has ide0 and ide2 only; use one of these, or sata or scsi")
    } else {
        None
    }
}

/// PVE's format `dns-name`, which names of VMs have (PVE::JSONSchema).
fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        let word = |c: u8| c.is_ascii_alphanumeric();
        let bytes = label.as_bytes();
        bytes.first().copied().is_some_and(word)
            && bytes.last().copied().is_some_and(word)
            && bytes.iter().all(|&c| word(c) || c == b'-')
            && bytes.len() <= 63
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// `True`, `yes` and the like as PVE's `1`; anything else as it is.
fn boolean_or_text(text: &str) -> String {
    match property::parse_bool(text) {
        Some(true) => "1".into(),
        Some(false) => "0".into(),
        None => text.to_owned(),
    }
}

/// For tests: options as they come from Ansible, without the connection's.
#[cfg(test)]
pub fn from_json(mut options: Value) -> Result<Desired, String> {
    options["api_host"] = serde_json::json!(["pve"]);
    Desired::from_options(&serde_json::from_value(options).unwrap())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn desired(options: Value) -> Result<Desired, String> {
        from_json(options)
    }

    fn plain(desired: &Desired) -> BTreeMap<&str, Option<&str>> {
        desired
            .plain
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_deref()))
            .collect()
    }

    #[test]
    fn options_become_pve_texts() {
        let desired = desired(json!({
            "name": "web1", "memory": 2048, "agent": "True", "onboot": true, "tags": ["B", "a", "b"],
            "serial": {"serial0": "socket"}, "boot": "scsi0;ide2", "description": "",
            "config": {"kvm": false, "args": "-x", "hookscript": null, "numa0": "cpus=0"},
        }))
        .unwrap();
        assert_eq!(
            plain(&desired),
            BTreeMap::from([
                ("name", Some("web1")),
                ("memory", Some("2048")),
                ("agent", Some("1")),
                ("onboot", Some("1")),
                ("tags", Some("a;b")),
                ("serial0", Some("socket")),
                ("description", None),
                ("kvm", Some("0")),
                ("args", Some("-x")),
                ("hookscript", None),
                ("numa0", Some("cpus=0")),
            ])
        );
        assert_eq!(desired.boot.as_deref(), Some("order=scsi0;ide2"));
    }

    #[test]
    fn mistakes_are_named_all_at_once() {
        let error = desired(json!({
            "name": "web_1", "memory": 1, "scsi": {"ide0": "a:1"}, "net": {"eth0": "virtio"}, "serial": {"s": "socket"},
            "config": {"memory": 2, "cipassword": "x", "ide2": null, "kvm": "maybe", "unused0": "x", "args": ["a"]},
            "ide": {"ide1": "a:1"}, "remove_disks": ["ide1", "floppy", "unused3"], "cores": 0, "pool": "",
            "tags": ["web", "x nixos-installing", "a;b", "", "ü"], "sata": {"sata6": {"storage": "a", "size": 1, "dicsard": true}},
            "virtio": {"virtio16": "a:1"},
        }))
        .unwrap_err();
        for part in [
            "name: 'web_1' is not a DNS name",
            "write for example 'web-1'",
            "scsi: 'ide0' is no drive",
            "net: 'eth0' is no network card",
            "serial: 's' is no device",
            "config: memory is described by an option of its own too",
            "config: cipassword cannot be set here: use the module cloudinit_drive",
            "config: ide2 is a drive; remove_disks removes it",
            "kvm is a boolean, not 'maybe'",
            "config: unused0 cannot be set",
            "args: expected text",
            "ide1 is described and in remove_disks",
            "'floppy' is no drive",
            "set delete_disks to delete its volume",
            "cores: must be at least 1 (got 0)",
            "pool is empty",
            "tags: 'x nixos-installing' is no tag",
            "tags: 'a;b' is no tag",
            "tags: 'ü' is no tag",
            "sata6: dicsard is not one of aio, ",
            "virtio16 is not one of virtio0 to virtio15",
        ] {
            assert!(error.contains(part), "{part} in: {error}");
        }
    }

    #[test]
    fn what_the_machine_does_not_have_is_refused() {
        let cdrom = json!("none,media=cdrom");
        for (options, part) in [
            (
                json!({"machine": "q35", "ide": {"ide1": cdrom}}),
                "ide1: a q35 machine has ide0 and ide2 only",
            ),
            (
                json!({"machine": "pc-q35-9.0,viommu=virtio", "config": {"ide3": cdrom}}),
                "ide3: a q35",
            ),
            (
                json!({"arch": "aarch64", "ide": {"ide2": cdrom}}),
                "ide2: an aarch64 machine (virt) has no IDE",
            ),
            (
                json!({"machine": "virt", "ide": {"ide0": cdrom}}),
                "ide0: an aarch64",
            ),
            (
                json!({"machine": {"type": "pc-q35-9.2"}, "arch": "aarch64"}),
                "machine: an aarch64 machine is virt",
            ),
            (
                json!({"machine": "pc", "hostpci": {"hostpci0": {"mapping": "gpu", "pcie": true}}}),
                "hostpci0: pcie needs the machine q35",
            ),
            (
                json!({"memory": 256, "balloon": 512}),
                "balloon: must be at most memory",
            ),
        ] {
            let error = desired(options).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        desired(json!({"machine": "q35", "ide": {"ide0": cdrom, "ide2": cdrom}})).unwrap();
        desired(json!({"machine": "pc", "ide": {"ide1": cdrom}})).unwrap();
    }

    #[test]
    fn legacy_boot_orders_are_refused_with_the_wanted_form() {
        let options = |boot: &str| {
            json!({
                "boot": boot, "scsi": {"scsi1": "a:1"}, "ide": {"ide2": "local:iso/a.iso,media=cdrom"},
                "net": {"net0": "virtio"}, "efidisk0": {"storage": "a"},
            })
        };
        for (boot, form) in [
            ("cdn", "order=scsi1;ide2;net0"),
            ("legacy=nc", "order=net0;scsi1"),
            ("c", "order=scsi1"),
            ("cad", "order=scsi1;ide2"),
        ] {
            let error = desired(options(boot)).unwrap_err();
            assert!(
                error.starts_with(&format!("boot: '{boot}' is PVE's legacy form")),
                "{error}"
            );
            assert!(error.ends_with(&format!("write {form}")), "{error}");
        }
        let error = desired(json!({"config": {"bootdisk": "scsi0", "boot": "cd"}})).unwrap_err();
        assert!(
            error.contains("config: bootdisk cannot be set here")
                && error.contains("write order=scsi0"),
            "{error}"
        );
        assert!(
            desired(json!({"boot": "c;n"}))
                .unwrap_err()
                .ends_with("write order=scsi0;net0")
        );
        for given in [json!({"order": "scsi0"}), json!([["scsi0"]]), json!([null])] {
            let error = desired(json!({"boot": given})).unwrap_err();
            assert!(
                error.contains("boot: expected text such as order="),
                "{error}"
            );
        }
        let repr = desired(json!({"boot": "['scsi1', 'net0']"})).unwrap_err();
        assert!(repr.contains("boot: expected text"), "{repr}");
        let list = desired(json!({"boot": ["scsi1", "net0"]})).unwrap();
        assert_eq!(list.boot.as_deref(), Some("order=scsi1;net0"));
        for boot in ["order=scsi1,ide2", "scsi1, ide2", "order=scsi1;ide2"] {
            let desired = desired(options(boot)).unwrap();
            assert_eq!(desired.boot.as_deref(), Some("order=scsi1;ide2"), "{boot}");
        }
        assert!(
            desired(options("scsi1;scsi1"))
                .unwrap_err()
                .contains("named twice")
        );
    }

    #[test]
    fn what_pve_does_not_know_is_refused_before() {
        let error = desired(json!({
            "config": {"vcpu": 2, "ha-managed": true, "bwlimit": 1, "storage": "x", "nameservers": "a", "ostype": "linux",
                       "cpu": ["host"], "hostpci0": {"mapping": "a,b"}, "usb0": ["x"]},
            "vga": {"typ": "std"},
        }))
        .unwrap_err();
        for part in [
            "config: vcpu is not an option",
            "config: ha-managed cannot be set here",
            "config: bwlimit cannot",
            "config: storage cannot",
            "did you mean nameserver?",
            "ostype: must be one of",
            "cpu: expected text",
            "hostpci0: mapping: ",
            "usb0: expected text",
            "vga: typ is not one of type, clipboard, memory",
        ] {
            assert!(error.contains(part), "{part} in: {error}");
        }
    }

    #[test]
    fn config_takes_drives_and_cards_too() {
        let desired =
            desired(json!({"config": {"scsi5": "local:1", "net3": null, "net4": {"bridge": "b"}}}))
                .unwrap();
        assert!(desired.drives.contains_key("scsi5"));
        assert_eq!(desired.nics["net3"], None);
        assert!(desired.describes_hardware());
    }
}
