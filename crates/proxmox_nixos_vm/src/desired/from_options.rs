//! The options in PVE's terms, with every mistake in them.

use pve_client::property::{self};
use pve_schema::{Kind, parameter, syntax};
use serde_json::Value;

use crate::config::drive::{self, Drive};
use crate::config::nic::{self, Nic};
use crate::config::{known_options, normalise, property_strings, text, validation};
use crate::desired::Desired;
use crate::guard::Guard;
use crate::options::{Clone, Options, State};

impl Desired {
    /// Bring the options into PVE's terms. The error names every mistake.
    pub fn from_options(options: &Options) -> Result<Self, Vec<String>> {
        let mut desired = Builder::default();
        match Guard::from_options(options) {
            Ok(guard) => desired.desired.guard = guard,
            Err(mistakes) => desired.mistakes.push(mistakes),
        }
        desired.parameters(options);
        desired.devices(options);
        desired.config(options);
        desired.removals(options);
        desired.clone_of(options);
        desired.ha(options);
        desired.contradictions(options);
        desired.refuse_legacy_boot();
        desired.refuse_not_on_machine();
        desired.finish()
    }
}

/// Options that are parameters of PVE, and whose values are lists or need more than the table says.
const READ_BY_THEMSELVES: [&str; 2] = ["boot", "tags"];

#[derive(Default)]
pub(super) struct Builder {
    pub(super) desired: Desired,
    pub(super) mistakes: Vec<String>,
    /// A boot order in PVE's legacy form.
    pub(super) legacy_boot: Option<String>,
}

impl Builder {
    fn finish(self) -> Result<Desired, Vec<String>> {
        if self.mistakes.is_empty() {
            Ok(self.desired)
        } else {
            Err(self.mistakes)
        }
    }

    /// The options that are parameters of PVE: the table says what their values may be.
    fn parameters(&mut self, options: &Options) {
        let values = serde_json::to_value(options).unwrap_or_default();
        for (name, value) in values.as_object().into_iter().flatten() {
            let row = parameter(name).filter(|_| !READ_BY_THEMSELVES.contains(&name.as_str()));
            let is_parameter = row
                .is_some_and(|row| !matches!(row.kind, Kind::NotConfig | Kind::Drive | Kind::Nic));
            if is_parameter && !value.is_null() {
                self.structured(name, value);
            }
        }
        self.check_name(options);
        self.tags(options);
        if let Some(boot) = &options.boot {
            self.boot(boot);
        }
        if options.pool.as_deref() == Some("") {
            self.mistakes.push("pool: must not be empty".into());
        }
        self.desired.pool.clone_from(&options.pool);
    }

    /// Refuse a name that PVE does not take, with one that it takes.
    fn check_name(&mut self, options: &Options) {
        if let Some(name) = options
            .name
            .as_deref()
            .filter(|name| !syntax::is_dns_name(name))
        {
            let hint = match name.replace('_', "-") {
                dashed if name.contains('_') && syntax::is_dns_name(&dashed) => format!(
                    "; PVE does not take '_', so write for example '{dashed}', or in a play \"{{{{ inventory_hostname | replace('_', '-') }}}}\""
                ),
                _ => String::new(),
            };
            self.mistakes.push(format!(
                "name: '{name}' is not a DNS name: parts of at most 63 letters, digits and hyphens, joined by dots, \
                 253 in all{hint}"
            ));
        }
    }

    /// The described tags, and the one of the guard.
    fn tags(&mut self, options: &Options) {
        let Some(tags) = &options.tags else {
            return;
        };
        // An item that holds several would set tags that nobody who checked the list has seen.
        let own = self.desired.guard.own().map(str::to_owned);
        let mut all: Vec<String> = own.into_iter().collect();
        for given in tags.iter().map(|tag| tag.trim()) {
            match validation::tag(given) {
                _ if given.is_empty() => {}
                Ok(()) => all.push(given.to_owned()),
                Err(mistake) => self.mistakes.push(format!("tags: {mistake}")),
            }
        }
        all.sort_by_key(|tag| tag.to_lowercase());
        let text = normalise::tags_with("", &all.join(";"));
        self.plain("tags", text);
    }

    fn devices(&mut self, options: &Options) {
        for (bus, drives) in [
            ("scsi", &options.scsi),
            ("virtio", &options.virtio),
            ("sata", &options.sata),
            ("ide", &options.ide),
        ] {
            for (key, value) in drives.iter().flatten() {
                if key.strip_prefix(bus).is_some_and(syntax::is_index) {
                    self.drive(key, value);
                } else {
                    self.mistakes.push(format!(
                        "{bus}: '{key}' is not a drive; write {bus}0, {bus}1, ..."
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
                self.mistakes
                    .push(format!("net: '{key}' is not a NIC; write net0, net1, ..."));
            }
        }
        for (kind, devices) in [
            ("serial", &options.serial),
            ("hostpci", &options.hostpci),
            ("usb", &options.usb),
        ] {
            for (key, value) in devices.iter().flatten() {
                if key.strip_prefix(kind).is_some_and(syntax::is_index) {
                    self.structured(key, value);
                } else {
                    self.mistakes.push(format!(
                        "{kind}: '{key}' is not a device; write {kind}0, {kind}1, ..."
                    ));
                }
            }
        }
    }

    fn config(&mut self, options: &Options) {
        for (key, value) in options.config.iter().flatten() {
            if let Some(instead) = parameter(key).and_then(|row| row.instead) {
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
            let unused = key.strip_prefix("unused").is_some_and(syntax::is_index);
            if !unused && !drive::is_key(key) {
                self.mistakes.push(format!(
                    "remove_disks: '{key}' is not a drive; write for example ide2 or scsi1"
                ));
            } else if unused && !options.delete_disks {
                self.mistakes.push(format!(
                    "remove_disks: {key} is detached already; set delete_disks to delete its volume"
                ));
            } else if self.desired.drives.contains_key(key) {
                self.mistakes.push(format!(
                    "remove_disks: {key} is also described as a drive; remove one of the two"
                ));
            } else {
                self.desired.remove.insert(key.clone());
            }
        }
    }

    /// Options that mean nothing as they are, or not together.
    fn contradictions(&mut self, options: &Options) {
        if let Some(vmid) = options.vmid.filter(|vmid| *vmid < 100) {
            self.mistakes
                .push(format!("vmid: must be at least 100 (got {vmid})"));
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
                .push("migrate: requires node; set node to the node that the VM moves to".into());
        }
        let ends_as = match options.state {
            State::Stopped => "stopped",
            State::Template => "a template",
            State::Absent => "absent",
            State::Present | State::Started | State::Restarted | State::Current => return,
        };
        if options.wait_for_address {
            self.mistakes.push(format!(
                "wait_for_address: requires a running VM, but this state leaves it {ends_as}; remove it or use state: started"
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
        let value = match parameter(name).map(|row| &row.kind) {
            Some(Kind::Properties(_)) => text::without_blanks(&value),
            None | Some(Kind::Any | Kind::NotConfig) => value,
            Some(_) => value.trim().to_owned(),
        };
        let value = match normalise::is_boolean(name).then(|| property::parse_bool(&value)) {
            Some(Some(on)) => String::from(if on { "1" } else { "0" }),
            Some(None) => {
                self.mistakes
                    .push(format!("{name}: must be a boolean (got '{value}')"));
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
            Ok(text) if matches!(name, "agent" | "hotplug") => {
                self.plain(name, boolean_or_text(&text));
            }
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
}

/// `True`, `yes` and the like as PVE's `1`; anything else as it is.
fn boolean_or_text(text: &str) -> String {
    match property::parse_bool(text) {
        Some(true) => "1".into(),
        Some(false) => "0".into(),
        None => text.to_owned(),
    }
}
