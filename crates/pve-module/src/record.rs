//! The record of an installation, kept in the notes of its VM: whose VM it is, and how far the installation has come.
//!
//! The record is one line, an HTML comment, which PVE keeps and its web interface does not show:
//!
//! ```text
//! <!-- nixos-proxmox: v=1 installation=… host=web1 vmid=101 uuid=… generation=… phase=installing run=… disk=… drives=… … -->
//! ```
//!
//! Notes can be copied, so the record names the VM that it belongs to by three values that PVE gives to no other VM:
//!
//! | event | VMID | `smbios1` uuid | `vmgenid` | notes |
//! | --- | --- | --- | --- | --- |
//! | full or linked clone | new | new | new | copied |
//! | rollback to a snapshot | kept | kept | new | stay as they are |
//! | restored backup | kept or new | kept or new | new | of the backup |
//!
//! So a clone never counts as installed by us, and a phase in which a disk may be written counts only while the VM was neither
//! rolled back nor restored.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use pve_client::property::PropertyString;
use serde::{Deserialize, Serialize};

/// What a record begins and ends with.
const START: &str = "<!-- nixos-proxmox: ";
const END: &str = " -->";

/// Bytes that stand in a value as they are.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b':')
    .remove(b'/');

/// How far an installation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The VM was asked for; its boot disk is not recorded yet.
    Creating,
    /// The VM exists. Nothing was written to its disk.
    Provisioning,
    /// The disk may be half written.
    Installing,
    /// The installation succeeded. Detaching the installer and verifying the system are outstanding.
    Installed,
    /// The machine is finished.
    Done,
    /// The VM was made by somebody else, and the user asked the role to manage it. Nothing is ever installed onto it.
    Adopted,
    /// A finished machine is to be installed anew, as the user confirmed. Nothing was written to its boot disk yet, its other disks are being
    /// detached, and it may still run the old system.
    Reinstalling,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::Creating,
        Self::Provisioning,
        Self::Installing,
        Self::Installed,
        Self::Done,
        Self::Adopted,
        Self::Reinstalling,
    ];

    /// The word in the record.
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Provisioning => "provisioning",
            Self::Installing => "installing",
            Self::Installed => "installed",
            Self::Done => "done",
            Self::Adopted => "adopted",
            Self::Reinstalling => "reinstalling",
        }
    }

    /// Whether steps of the installation are outstanding.
    pub fn unfinished(self) -> bool {
        !matches!(self, Self::Done | Self::Adopted)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The installation's ID: 32 hexadecimal digits that nobody can guess.
    pub installation: String,
    /// The inventory host whose machine it is.
    pub host: String,
    /// The VM's number.
    pub vmid: u32,
    /// The UUID in the VM's `smbios1`.
    pub uuid: String,
    /// The VM's `vmgenid`, which PVE makes and only its root may choose: none while the VM is being made. A VM of another architecture
    /// than x86_64 has none.
    pub generation: Option<String>,
    /// How far the installation has come.
    pub phase: Phase,
    /// The run that is at work, or was last: 8 hexadecimal digits.
    pub run: String,
    /// The volume of the disk that NixOS is installed onto, once it is known.
    pub disk: Option<String>,
    /// The drives of that disk, the installer and the seed: `scsi0/ide2/ide0`.
    pub drives: Option<String>,
    /// The installer ISO that this installation attached.
    pub installer: Option<String>,
    /// The disk image that the boot disk was made from, if the machine is not installed by an installer.
    #[serde(default)]
    pub image: Option<String>,
    /// The VMID of the template that it is a linked clone of.
    #[serde(default)]
    pub template: Option<u32>,
    /// The installer's public host key, `TYPE BASE64`: any controller can check whether the installer of this installation answers.
    pub installer_key: Option<String>,
    /// The public host key of the installed system.
    pub host_key: Option<String>,
    /// What is known of the reinstallation, if the machine was finished before.
    #[serde(default)]
    pub reinstall: Option<Reinstall>,
}

/// A reinstallation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reinstall {
    /// The word by which the user confirmed it. It counts once.
    pub confirmed: String,
    /// The disks that are detached meanwhile, with their options, by their keys.
    pub detached: Vec<(String, String)>,
}

impl Reinstall {
    /// `scsi1=VOLUME,OPTIONS;scsi2=...`. No value of a drive has a semicolon.
    fn detached_text(&self) -> Option<String> {
        let disks: Vec<String> = self
            .detached
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        (!disks.is_empty()).then(|| disks.join(";"))
    }

    fn parse(confirmed: String, detached: Option<&str>) -> Option<Self> {
        let disks = detached.into_iter().flat_map(|text| text.split(';'));
        let detached: Option<Vec<(String, String)>> = disks
            .map(|disk| {
                disk.split_once('=')
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
            })
            .collect();
        Some(Self {
            confirmed,
            detached: detached?,
        })
    }
}

/// What a record is worth on the VM that bears it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It was written for this VM.
    Ours,
    /// It was written for this VM, which was rolled back or restored since.
    RolledBack,
    /// It was written for another VM, and copied.
    Copied,
}

impl Record {
    /// The record in a VM's notes. Several count as none: it is not known which one is right.
    pub fn find(notes: &str) -> Option<Self> {
        let mut lines = notes.lines().filter(|line| is_record(line));
        let line = lines.next()?;
        match lines.next() {
            None => Self::parse(line),
            Some(_) => None,
        }
    }

    /// Whether notes have records and none that counts: several, or one that was cut off or edited.
    pub fn is_unreadable(notes: &str) -> bool {
        Self::find(notes).is_none() && notes.lines().any(is_record)
    }

    fn parse(line: &str) -> Option<Self> {
        let inner = line.trim().strip_prefix(START)?.strip_suffix(END)?;
        let get = |key: &str| {
            let mut words = inner
                .split(' ')
                .filter_map(|word| word.split_once('='))
                .filter(|(name, _)| *name == key);
            let (_, value) = words.next()?;
            if words.next().is_some() {
                return None;
            }
            let text = percent_decode_str(value).decode_utf8().ok()?;
            let plain = !text.is_empty() && !text.chars().any(char::is_control);
            plain.then(|| text.into_owned())
        };
        // The installation and the run are parts of paths on the controller, and whoever may edit the notes chooses the text.
        let hex = |key: &str, digits: usize| {
            let hex =
                |text: &String| text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit());
            get(key).filter(hex)
        };
        if get("v")? != "1" {
            return None;
        }
        let phase = get("phase")?;
        let detached = get("detached");
        let reinstall = match get("confirmed") {
            Some(confirmed) => Some(Reinstall::parse(confirmed, detached.as_deref())?),
            None => None,
        };
        Some(Self {
            installation: hex("installation", 32)?,
            host: get("host")?,
            vmid: get("vmid")?.parse().ok()?,
            uuid: get("uuid")?.to_lowercase(),
            generation: get("generation").map(|text| text.to_lowercase()),
            phase: Phase::ALL.into_iter().find(|p| p.name() == phase)?,
            run: hex("run", 8)?,
            disk: get("disk"),
            drives: get("drives"),
            installer: get("installer"),
            image: get("image"),
            template: get("template").and_then(|text| text.parse().ok()),
            installer_key: get("installer_key"),
            host_key: get("host_key"),
            reinstall,
        })
    }

    /// Whether the VM may have another UUID yet: PVE makes up that of a linked clone, whose notes have the record with the VMID from the
    /// beginning. The next write sets the record's own. Nobody but PVE has written to such a VM's disk, and nothing installs onto it.
    fn awaits_uuid(&self) -> bool {
        self.phase == Phase::Creating && self.template.is_some()
    }

    /// What the record is worth on a VM with this number and these values of its configuration.
    pub fn binding(&self, vmid: u32, identity: &Identity) -> Binding {
        let uuid = identity.uuid.as_deref().unwrap_or_default();
        let is_known = self.uuid.eq_ignore_ascii_case(uuid);
        if self.vmid != vmid || !(is_known || self.awaits_uuid()) {
            return Binding::Copied;
        }
        if !is_known {
            return Binding::Ours;
        }
        let same = |a: &Option<String>, b: &Option<String>| match (a, b) {
            (Some(a), Some(b)) => a.eq_ignore_ascii_case(b),
            (None, None) => true,
            // It was asked for, and PVE chose a value.
            (None, Some(_)) => self.phase == Phase::Creating,
            (Some(_), None) => false,
        };
        if same(&self.generation, &identity.generation) {
            Binding::Ours
        } else {
            Binding::RolledBack
        }
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = |text: &str| utf8_percent_encode(text, PLAIN).to_string();
        write!(
            f,
            "{START}v=1 installation={} host={} vmid={} uuid={}",
            plain(&self.installation),
            plain(&self.host),
            self.vmid,
            plain(&self.uuid)
        )?;
        let phase = Some(self.phase.name().to_owned());
        let confirmed = self
            .reinstall
            .as_ref()
            .map(|reinstall| reinstall.confirmed.clone());
        let detached = self.reinstall.as_ref().and_then(Reinstall::detached_text);
        for (key, value) in [
            ("generation", &self.generation),
            ("phase", &phase),
            ("run", &Some(self.run.clone())),
            ("disk", &self.disk),
            ("drives", &self.drives),
            ("installer", &self.installer),
            ("image", &self.image),
            ("template", &self.template.map(|vmid| vmid.to_string())),
            ("installer_key", &self.installer_key),
            ("host_key", &self.host_key),
            ("confirmed", &confirmed),
            ("detached", &detached),
        ] {
            if let Some(value) = value {
                write!(f, " {key}={}", plain(value))?;
            }
        }
        f.write_str(END)
    }
}

/// The values of a VM's configuration that no other VM has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The UUID in `smbios1`, in lower case.
    pub uuid: Option<String>,
    /// `vmgenid`, in lower case.
    pub generation: Option<String>,
}

impl Identity {
    /// The identity of the VM whose configuration has these texts for `smbios1` and `vmgenid`.
    pub fn of(smbios1: Option<&str>, vmgenid: Option<&str>) -> Self {
        let parts = smbios1.and_then(|text| PropertyString::parse(text, None).ok());
        Self {
            uuid: parts.and_then(|parts| Some(parts.get("uuid")?.to_lowercase())),
            generation: vmgenid.map(str::to_lowercase),
        }
    }
}

fn is_record(line: &str) -> bool {
    line.trim_start().starts_with(START.trim_end())
}

/// The notes without records, and without line ends at their end.
pub fn without_record(notes: &str) -> String {
    let lines: Vec<&str> = notes.lines().filter(|line| !is_record(line)).collect();
    lines.join("\n").trim_end_matches('\n').to_owned()
}

/// The lines of the notes that are records, as they are.
pub fn record_lines(notes: &str) -> Option<String> {
    let lines: Vec<&str> = notes.lines().filter(|line| is_record(line)).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// Notes with a record (a text of [`Record`]'s `Display`) as their last line, in place of the one that they have.
pub fn with_record(notes: &str, record: Option<&str>) -> String {
    let text = without_record(notes);
    match (text.is_empty(), record) {
        (_, None) => text,
        (true, Some(record)) => record.to_owned(),
        // An empty line keeps Markdown from joining the comment to the text before it.
        (false, Some(record)) => format!("{text}\n\n{record}"),
    }
}

#[cfg(test)]
mod tests;
