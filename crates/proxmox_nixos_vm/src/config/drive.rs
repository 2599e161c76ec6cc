//! Drives: what a text or dict describes, and how that compares with what PVE has.

use std::collections::BTreeMap;

use pve_client::property::{self, PropertyString};
use serde_json::Value;

use crate::config::dict;
use crate::config::property_strings::Kind;
use crate::config::property_strings::Kind::Any;
use crate::config::property_strings::Kind::Choice;
use crate::config::property_strings::Kind::Flag;
use crate::config::property_strings::Kind::Integer;
use crate::config::property_strings::Kind::Number;
use crate::config::property_strings::MOST;
use crate::config::size;
use crate::config::size::Fit;
use crate::config::text;

/// What is in a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A disk to be allocated: `storage:32`.
    New {
        /// The storage it is allocated on.
        storage: String,
    },
    /// A volume that exists: `local:101/vm-101-disk-0.raw`.
    Volume(String),
    /// A CD-ROM with this ISO: `local:iso/nixos.iso`.
    Iso(String),
    /// PVE's own cloud-init drive on this storage: `storage:cloudinit`.
    CloudInit(String),
    /// A CD-ROM drive without a medium: `none`.
    Empty,
    /// The node's own CD-ROM drive: `cdrom`.
    Host,
}

/// A drive, described or existing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// What is in it.
    pub source: Source,
    /// Its size in bytes. Of CD-ROMs never known here: PVE adds it to ISOs, and it means nothing.
    pub size: Option<u64>,
    /// Every other drive option, as PVE writes them, without `media`.
    pub options: BTreeMap<String, String>,
}

/// What must be done to a drive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// Nothing.
    None,
    /// Its text must become `text`, and after that the disk must have `grow` bytes.
    Edit {
        /// The new text, if that differs.
        text: Option<String>,
        /// The new size, if the disk must grow.
        grow: Option<u64>,
    },
    /// The disk is on another storage; what else differs is seen when it has been moved to this one.
    Move(String),
    /// This module does not do that.
    Refused(String),
}

/// Options that only say how a volume is made, and are not part of the drive afterwards.
const AT_CREATION: [&str; 2] = ["format", "import-from"];

/// Drive options whose absence means this value.
const DEFAULTS: [(&str, &str); 13] = [
    ("backup", "1"),
    ("cache", "none"),
    ("detect_zeroes", "1"),
    ("discard", "ignore"),
    ("efitype", "2m"),
    ("iothread", "0"),
    ("pre-enrolled-keys", "0"),
    ("replicate", "1"),
    ("ro", "0"),
    ("scsiblock", "0"),
    ("shared", "0"),
    ("snapshot", "0"),
    ("ssd", "0"),
];

/// PVE's options of all drives but state disks.
const OPTIONS: [(&str, Kind); 41] = [
    ("aio", Choice(&["native", "threads", "io_uring"])),
    ("backup", Flag),
    ("bps", COUNT),
    ("bps_max_length", LENGTH),
    ("bps_rd", COUNT),
    ("bps_rd_length", LENGTH),
    ("bps_rd_max_length", LENGTH),
    ("bps_wr", COUNT),
    ("bps_wr_length", LENGTH),
    ("bps_wr_max_length", LENGTH),
    (
        "cache",
        Choice(&["none", "writethrough", "writeback", "unsafe", "directsync"]),
    ),
    ("detect_zeroes", Flag),
    ("discard", Choice(&["ignore", "on"])),
    ("format", FORMAT),
    ("import-from", Any),
    ("iops", COUNT),
    ("iops_max", COUNT),
    ("iops_max_length", LENGTH),
    ("iops_rd", COUNT),
    ("iops_rd_length", LENGTH),
    ("iops_rd_max", COUNT),
    ("iops_rd_max_length", LENGTH),
    ("iops_wr", COUNT),
    ("iops_wr_length", LENGTH),
    ("iops_wr_max", COUNT),
    ("iops_wr_max_length", LENGTH),
    ("mbps", Number),
    ("mbps_max", Number),
    ("mbps_rd", Number),
    ("mbps_rd_max", Number),
    ("mbps_wr", Number),
    ("mbps_wr_max", Number),
    ("media", Choice(&["cdrom", "disk"])),
    ("replicate", Flag),
    ("rerror", Choice(&["ignore", "report", "stop"])),
    ("serial", Any),
    ("shared", Flag),
    ("size", Any),
    ("snapshot", Flag),
    ("werror", Choice(&["enospc", "ignore", "report", "stop"])),
    ("volume", Any),
];

/// Options of drives of some buses.
const BUS_OPTIONS: [(&str, Kind, &[&str]); 9] = [
    ("iothread", Flag, &["scsi", "virtio"]),
    ("model", Any, &["ide"]),
    ("product", Any, &["scsi"]),
    ("queues", Integer(2, MOST), &["scsi"]),
    ("ro", Flag, &["scsi", "virtio"]),
    ("scsiblock", Flag, &["scsi"]),
    ("ssd", Flag, &["ide", "sata", "scsi"]),
    ("vendor", Any, &["scsi"]),
    ("wwn", Any, &["ide", "sata", "scsi"]),
];

const EFIDISK_OPTIONS: [(&str, Kind); 6] = [
    ("efitype", Choice(&["2m", "4m"])),
    ("format", FORMAT),
    ("import-from", Any),
    ("ms-cert", Any),
    ("pre-enrolled-keys", Flag),
    ("size", Any),
];

const TPMSTATE_OPTIONS: [(&str, Kind); 4] = [
    ("format", FORMAT),
    ("import-from", Any),
    ("size", Any),
    ("version", Choice(&["v1.2", "v2.0"])),
];

const COUNT: Kind = Integer(0, MOST);
const LENGTH: Kind = Integer(1, MOST);
const FORMAT: Kind = Choice(&["raw", "qcow", "qed", "qcow2", "vmdk", "cloop"]);

/// Whether a drive's option is a boolean, whatever the drive.
fn is_boolean(name: &str) -> bool {
    let of_all = OPTIONS.iter().chain(&EFIDISK_OPTIONS);
    let of_buses = BUS_OPTIONS.iter().map(|(option, kind, _)| (option, kind));
    let mut all = of_all.map(|(option, kind)| (option, kind)).chain(of_buses);
    all.any(|(option, kind)| *option == name && matches!(kind, Flag))
}

/// The options that the drive `key` can have.
fn options_of(key: &str) -> Vec<(&'static str, &'static Kind)> {
    let all = |options: &'static [(&str, Kind)]| options.iter().map(|(name, kind)| (*name, kind));
    let bus = key.trim_end_matches(|c: char| c.is_ascii_digit());
    match key {
        "efidisk0" => all(&EFIDISK_OPTIONS).collect(),
        "tpmstate0" => all(&TPMSTATE_OPTIONS).collect(),
        _ => {
            let of_bus = BUS_OPTIONS
                .iter()
                .filter(|(.., buses)| buses.contains(&bus));
            all(&OPTIONS)
                .chain(of_bus.map(|(name, kind, _)| (*name, kind)))
                .collect()
        }
    }
}

/// Whether `key` names a drive of a VM.
pub fn is_key(key: &str) -> bool {
    let index = ["ide", "sata", "scsi", "virtio"]
        .iter()
        .find_map(|bus| key.strip_prefix(bus));
    is_state_disk(key) || index.is_some_and(text::is_index)
}

/// The VM that the volume of a drive's text belongs to, by PVE's names (`vm-100-disk-0`, `base-100-disk-0`).
pub fn owner(key: &str, text: &str) -> Option<u32> {
    let drive = is_key(key).then(|| Drive::from_text(text).ok())??;
    let Source::Volume(volid) = drive.source else {
        return None;
    };
    let name = volid.rsplit(['/', ':']).next()?;
    let rest = name.strip_prefix("vm-").or(name.strip_prefix("base-"))?;
    rest.split('-').next()?.parse().ok()
}

/// Whether `key` names a disk of the firmware's own, whose content is made once.
pub fn is_state_disk(key: &str) -> bool {
    matches!(key, "efidisk0" | "tpmstate0")
}

impl Drive {
    /// Read what a user or PVE wrote for the drive `key`.
    pub fn parse(key: &str, value: &Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Self::from_text(text),
            Value::Object(map) => Self::from_dict(key, map),
            other => Err(format!("expected text or a dict (got {other})")),
        }
        .and_then(|drive| drive.checked(key))
        .map_err(|problem| format!("{key}: {problem}"))
    }

    /// The drive `key`, unless PVE would refuse it.
    fn checked(self, key: &str) -> Result<Self, String> {
        if matches!(self.source, Source::New { .. })
            && self.size == Some(0)
            && !is_state_disk(key)
            && !self.options.contains_key("import-from")
        {
            return Err("size: must be larger than 0".into());
        }
        let known = options_of(key);
        for (name, value) in &self.options {
            match known.iter().find(|(option, _)| option == name) {
                Some((_, kind)) => kind
                    .check(value)
                    .map_err(|expected| format!("{name} must be {expected} (got '{value}')"))?,
                // What a later PVE may have is left to it.
                None => refuse_other_bus(name)?,
            }
        }
        Ok(self)
    }

    /// Read PVE's text.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let parts = PropertyString::parse(text, Some("file")).map_err(|e| e.to_string())?;
        let fields = parts
            .iter()
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        Self::from_fields(fields, None)
    }

    /// Read a dict: `storage` and `size`, or `iso`, or `volume`, and drive options.
    fn from_dict(key: &str, map: &serde_json::Map<String, Value>) -> Result<Self, String> {
        let mut fields = BTreeMap::new();
        let mut media = None;
        let mut size = None;
        for (name, value) in map {
            let value = match (name.as_str(), value) {
                (_, Value::Null) => continue,
                // YAML reads `discard: on` as true.
                ("size", Value::Bool(_)) => {
                    return Err(format!("size: expected a size such as 32G (got {value})"));
                }
                ("discard", Value::Bool(on)) => String::from(if *on { "on" } else { "ignore" }),
                (_, value) => dict::part(name, value)?,
            };
            match name.as_str() {
                "media" => media = Some(value),
                // YAML reads `version: 2.0` as a number, and PVE writes v2.0.
                "version"
                    if key == "tpmstate0" && value.starts_with(|c: char| c.is_ascii_digit()) =>
                {
                    fields.insert(name.clone(), format!("v{value}"));
                }
                "size" => size = Some(value),
                "import_from" | "pre_enrolled_keys" | "ms_cert" => {
                    fields.insert(name.replace('_', "-"), value);
                }
                "storage" | "iso" => {
                    fields.insert(name.clone(), value);
                }
                _ => {
                    let known = options_of(key).into_iter().map(|(option, _)| option);
                    let known: Vec<&str> = known.chain(["storage", "iso", "volume"]).collect();
                    if name != "file" && !known.contains(&name.as_str()) {
                        refuse_other_bus(name)?;
                        dict::check_key(name, &known)?;
                    }
                    fields.insert(name.clone(), value);
                }
            }
        }
        let storage = fields.remove("storage");
        let iso = fields.remove("iso");
        let volume = fields.remove("volume");
        let file = fields.remove("file");
        let named = [&storage, &iso, &volume, &file]
            .iter()
            .filter(|v| v.is_some())
            .count();
        if named != 1 {
            return Err("give exactly one of storage, iso and volume".into());
        }
        let bytes = match &size {
            Some(text) => Some(size::parse(text).ok_or_else(|| {
                format!(
                    "size '{text}' is no size; write 32G, 512M, or 32 for GiB (PVE allocates GiB)"
                )
            })?),
            None => None,
        };
        if let Some(storage) = storage {
            let imports = fields.contains_key("import-from");
            // PVE gives state disks and imports their size itself.
            let amount = match bytes {
                Some(bytes) if !imports => size::gib(bytes),
                None if is_state_disk(key) => "1".into(),
                _ if imports => "0".into(),
                _ => return Err("a disk needs a size, for example 32G".into()),
            };
            fields.insert("file".into(), format!("{storage}:{amount}"));
        } else if let Some(iso) = iso {
            media = Some("cdrom".into());
            fields.insert("file".into(), iso);
        } else if let Some(volume) = volume.or(file) {
            fields.insert("file".into(), volume);
        }
        if let Some(media) = media {
            fields.insert("media".into(), media);
        }
        Self::from_fields(fields, bytes)
    }

    fn from_fields(
        mut fields: BTreeMap<String, String>,
        bytes: Option<u64>,
    ) -> Result<Self, String> {
        if let Some(alias) = fields.remove("volume") {
            fields.entry("file".into()).or_insert(alias);
        }
        let file = fields
            .remove("file")
            .ok_or("the volume is missing; write storage:GiB for a new disk")?;
        let media = fields.remove("media");
        let written_size = fields.remove("size");
        if let Some(value) = fields.get_mut("discard")
            && let Some(on) = property::parse_bool(value)
        {
            *value = String::from(if on { "on" } else { "ignore" });
        }
        for (key, value) in &mut fields {
            if is_boolean(key)
                && let Some(on) = property::parse_bool(value)
            {
                *value = String::from(if on { "1" } else { "0" });
            }
        }
        let (source, new_size) =
            source(&file, media.as_deref(), fields.contains_key("import-from"))?;
        if let (Source::New { .. }, Some(bytes), Some(text)) =
            (&source, new_size, written_size.as_deref())
            && property::parse_size(text) != Some(bytes)
        {
            return Err(format!(
                "{file} allocates {}, and size={text} says otherwise; give the size once",
                property::format_size(bytes)
            ));
        }
        let size = match (&source, new_size) {
            (Source::New { .. }, size) => size.or(bytes),
            (Source::Volume(_), _) => {
                bytes.or_else(|| written_size.as_deref().and_then(property::parse_size))
            }
            _ => None,
        };
        Ok(Self {
            source,
            size,
            options: fields,
        })
    }

    /// Whether it is a CD-ROM drive.
    pub fn is_cdrom(&self) -> bool {
        !matches!(self.source, Source::New { .. } | Source::Volume(_))
    }

    /// The storage that it needs.
    pub fn storage(&self) -> Option<&str> {
        match &self.source {
            Source::New { storage } | Source::CloudInit(storage) => Some(storage),
            Source::Volume(volid) | Source::Iso(volid) if !volid.starts_with('/') => {
                volid.split_once(':').map(|(storage, _)| storage)
            }
            Source::Volume(_) | Source::Iso(_) | Source::Empty | Source::Host => None,
        }
    }

    /// The text that makes this drive, for PVE.
    pub fn to_text(&self) -> String {
        let file = match &self.source {
            Source::New { storage } => {
                let amount = if self.options.contains_key("import-from") {
                    "0".into()
                } else {
                    size::gib(self.size.unwrap_or(size::GIB))
                };
                format!("{storage}:{amount}")
            }
            Source::Volume(volid) | Source::Iso(volid) => volid.clone(),
            Source::CloudInit(storage) => format!("{storage}:cloudinit"),
            Source::Empty => "none".into(),
            Source::Host => "cdrom".into(),
        };
        let mut parts = PropertyString::new(Some("file"));
        parts.set("file", file);
        if self.is_cdrom() && !matches!(self.source, Source::CloudInit(_)) {
            parts.set("media", "cdrom");
        }
        for (key, value) in &self.options {
            parts.set(key, value);
        }
        if let (Source::Volume(_), Some(bytes)) = (&self.source, self.size) {
            parts.set("size", property::format_size(bytes));
        }
        parts.to_string()
    }

    /// What must be done to the drive `key`, which is `have`, so that it is `self`.
    pub fn against(&self, key: &str, have: &Drive) -> Difference {
        let refused = |text: String| Difference::Refused(format!("{key}: {text}"));
        match (&self.source, &have.source) {
            (Source::Iso(_) | Source::Empty | Source::Host, Source::CloudInit(_)) => {
                refused("there is a cloud-init drive; remove that first (cloudinit_drive with state=absent), or take another key".into())
            }
            (Source::CloudInit(want), Source::CloudInit(storage)) if want == storage => Difference::None,
            (Source::CloudInit(_), _) => {
                refused("something else than this cloud-init drive is there already; remove it first (remove_disks)".into())
            }
            _ if self.is_cdrom() && have.is_cdrom() => {
                let same = self.source == have.source && self.differing(have).is_empty();
                if same { Difference::None } else { Difference::Edit { text: Some(self.to_text()), grow: None } }
            }
            _ if self.is_cdrom() != have.is_cdrom() => {
                let (is, desired) = if have.is_cdrom() { ("CD-ROM", "disk") } else { ("disk", "CD-ROM") };
                refused(format!("there is a {is} where a {desired} is described; remove it first (remove_disks), or take another key"))
            }
            (Source::New { .. }, Source::Volume(path)) if have.storage().is_none() => refused(format!(
                "the disk is {path} and on no storage; remove it first (remove_disks), or take another key"
            )),
            (Source::New { storage }, Source::Volume(_)) if have.storage() != Some(storage) => {
                Difference::Move(storage.clone())
            }
            (Source::Volume(want), Source::Volume(volid)) if want != volid => refused(format!(
                "the disk is {volid} and not {want}; a disk is never replaced: remove it first (remove_disks)"
            )),
            (_, Source::Volume(volid)) if is_state_disk(key) => {
                match self.differing(have).into_iter().find(|name| self.options.contains_key(*name)) {
                    Some(name) => refused(format!("{name} of {volid} cannot be changed after it was made; remove it first (remove_disks)")),
                    None => Difference::None,
                }
            }
            (_, Source::Volume(volid)) => self.against_disk(key, have, volid),
            // A described disk that PVE has no volume for yet cannot be; treat it as to be made.
            _ => Difference::Edit { text: Some(self.to_text()), grow: None },
        }
    }

    fn against_disk(&self, key: &str, have: &Drive, volid: &str) -> Difference {
        let is = format_of(volid);
        if let Some(want) = self.options.get("format").filter(|want| *want != is) {
            return Difference::Refused(format!(
                "{key}: the disk is {is} and not {want}, and PVE changes a format only when it moves a disk to another storage \
                 (qm disk move ... --format {want}); describe it with format: {is}, or leave format out"
            ));
        }
        let grow = match (self.size, have.size) {
            (Some(want), Some(bytes)) => match size::fit(want, bytes) {
                Fit::Same => None,
                Fit::Grow => Some(want),
                Fit::Larger => {
                    let (is, want) = (property::format_size(bytes), property::format_size(want));
                    return Difference::Refused(format!(
                        "{key}: the disk has {is} and not {want}; a disk is never shrunk: describe it with {is}"
                    ));
                }
            },
            _ => None,
        };
        let text = (!self.differing(have).is_empty()).then(|| {
            Drive {
                source: Source::Volume(volid.to_owned()),
                size: have.size,
                options: self
                    .options
                    .iter()
                    .filter(|(name, _)| !AT_CREATION.contains(&name.as_str()))
                    .map(|(k, v)| (k.clone(), v.clone()))
                    .collect(),
            }
            .to_text()
        });
        if text.is_none() && grow.is_none() {
            Difference::None
        } else {
            Difference::Edit { text, grow }
        }
    }

    /// The names of the options that differ in meaning.
    fn differing<'a>(&'a self, have: &'a Drive) -> Vec<&'a str> {
        let names = self.options.keys().chain(have.options.keys());
        names
            .map(String::as_str)
            .filter(|name| !AT_CREATION.contains(name))
            .filter(|name| meaning(&self.options, name) != meaning(&have.options, name))
            .collect()
    }
}

/// Refuse an option that only drives of other buses have.
fn refuse_other_bus(name: &str) -> Result<(), String> {
    match BUS_OPTIONS.iter().find(|(option, ..)| *option == name) {
        Some((.., buses)) => Err(format!(
            "{name} is not an option of this drive; only of {}",
            buses.join(", ")
        )),
        None => Ok(()),
    }
}

/// The value of an option in one spelling, or what its absence means.
fn meaning(options: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let default = || DEFAULTS.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let value = options.get(name).map(String::as_str).or_else(default)?;
    let is_rate = ["bps", "iops", "mbps"]
        .iter()
        .any(|stem| name.starts_with(stem));
    Some(match (name, value.parse::<f64>()) {
        ("wwn", _) => value.to_ascii_lowercase(),
        // No limit.
        (_, Ok(0.0)) if is_rate => return None,
        (_, Ok(number)) if is_rate => number.to_string(),
        _ => value.to_owned(),
    })
}

/// The format of a volume: the end of its name, where the storage has files, else raw.
fn format_of(volid: &str) -> &str {
    let file = volid.rsplit('/').next().unwrap_or(volid);
    match file.rsplit_once('.') {
        Some((_, end)) if ["qcow2", "vmdk", "qcow", "qed", "cow", "cloop"].contains(&end) => end,
        _ => "raw",
    }
}

/// What the first field of a drive says, and the size in it.
fn source(file: &str, media: Option<&str>, imports: bool) -> Result<(Source, Option<u64>), String> {
    match file {
        "none" => return Ok((Source::Empty, None)),
        "cdrom" => return Ok((Source::Host, None)),
        // A device of the node, which only root may name.
        path if path.starts_with('/') => return Ok((Source::Volume(path.into()), None)),
        _ => {}
    }
    let (storage, name) = file
        .split_once(':')
        .ok_or_else(|| format!("'{file}' is neither storage:GiB nor a volume (storage:name)"))?;
    if file.contains(char::is_whitespace) && size::with_unit(name).is_none() {
        return Err(format!("'{file}' contains a blank, which no volume has"));
    }
    if name.starts_with('-') {
        return Err(format!("'{file}': a size must be larger than 0"));
    }
    let numeric = name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if name == "cloudinit" {
        Ok((Source::CloudInit(storage.into()), None))
    } else if numeric {
        let bytes = size::parse(name).ok_or_else(|| format!("'{name}' is no number of GiB"))?;
        Ok((
            Source::New {
                storage: storage.into(),
            },
            (!imports).then_some(bytes),
        ))
    } else if is_cloudinit_volume(name) {
        Ok((Source::CloudInit(storage.into()), None))
    } else if media == Some("cdrom") || name.starts_with("iso/") {
        Ok((Source::Iso(file.into()), None))
    } else if let Some(bytes) = size::with_unit(name) {
        Err(format!(
            "'{file}': PVE's text takes a number of GiB; write {storage}:{}, or a dict, which takes units: {{storage: {storage}, size: {}}}",
            size::gib(bytes),
            property::format_size(bytes)
        ))
    } else {
        Ok((Source::Volume(file.into()), None))
    }
}

/// Whether PVE named this volume as a VM's cloud-init drive: `vm-101-cloudinit`, with folder and suffix on some storages.
fn is_cloudinit_volume(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.split('.').next().unwrap_or(file);
    stem.strip_prefix("vm-")
        .and_then(|rest| rest.strip_suffix("-cloudinit"))
        .is_some_and(text::is_index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn drive(value: Value) -> Drive {
        Drive::parse("scsi0", &value).unwrap()
    }

    fn edit(text: &str) -> Difference {
        Difference::Edit {
            text: Some(text.into()),
            grow: None,
        }
    }

    #[test]
    fn texts_and_dicts_say_the_same() {
        for (dict, text) in [
            (
                json!({"storage": "zfs", "size": "32G", "discard": true, "iothread": true}),
                "zfs:32,discard=on,iothread=1",
            ),
            (json!({"storage": "zfs", "size": 32}), "zfs:32"),
            (
                json!({"storage": "zfs", "size": "512M", "ssd": false}),
                "zfs:0.5,ssd=0",
            ),
            (
                json!({"iso": "local:iso/a.iso"}),
                "local:iso/a.iso,media=cdrom",
            ),
            (
                json!({"volume": "none", "media": "cdrom"}),
                "none,media=cdrom",
            ),
            (
                json!({"storage": "zfs", "import_from": "local:import/d.qcow2"}),
                "zfs:0,import-from=local:import/d.qcow2",
            ),
        ] {
            assert_eq!(drive(dict.clone()), drive(json!(text)), "{dict}");
            assert_eq!(drive(dict).to_text(), text);
        }
        assert_eq!(
            drive(json!("local:iso/a.iso")).to_text(),
            "local:iso/a.iso,media=cdrom"
        );
        assert_eq!(drive(json!("none")).to_text(), "none,media=cdrom");
        assert_eq!(drive(json!("zfs:cloudinit")).to_text(), "zfs:cloudinit");
        let tpm = json!({"storage": "zfs", "version": 2.0});
        assert_eq!(
            Drive::parse("tpmstate0", &tpm).unwrap().to_text(),
            "zfs:1,version=v2.0"
        );
        let efi = json!({"storage": "zfs", "efitype": "4m", "pre_enrolled_keys": false});
        assert_eq!(
            Drive::parse("efidisk0", &efi).unwrap().to_text(),
            "zfs:1,efitype=4m,pre-enrolled-keys=0"
        );
    }

    #[test]
    fn mistakes_are_explained() {
        for (value, part) in [
            (json!("zfs:32G"), "write zfs:32, "),
            (
                json!("zfs:512M"),
                "write zfs:0.5, or a dict, which takes units: {storage: zfs, size: 512M}",
            ),
            (json!("zfs:1T"), "write zfs:1024, "),
            (json!("zfs:10GB"), "write zfs:10, "),
            (json!("zfs:2 GiB"), "write zfs:2, "),
            (json!("zfs:524288k"), "write zfs:0.5, "),
            (json!("zfs:32,size=64G"), "give the size once"),
            (
                json!({"storage": "zfs", "size": 1, "serial": "a,ssd=1"}),
                "serial: ",
            ),
            (json!({"storage": "zfs:1,ssd=1", "size": 1}), "storage: "),
            (
                json!({"storage": "zfs", "size": 1, "cache": {"a": 1}}),
                "cache: expected text",
            ),
            (json!("32"), "storage:GiB"),
            (json!({"storage": "zfs"}), "needs a size"),
            (json!({"storage": "zfs", "size": "big"}), "'big' is no size"),
            (json!({"size": "1G"}), "exactly one of"),
            (
                json!({"storage": "a", "iso": "b:iso/c.iso", "size": 1}),
                "exactly one of",
            ),
            (json!(["zfs:32"]), "expected text or a dict"),
            (json!("zfs:32,ssd=1,ssd=0"), "twice"),
            (json!("zfs:0"), "larger than 0"),
            (json!("zfs:-1"), "larger than 0"),
            (json!({"storage": "zfs", "size": 0}), "larger than 0"),
            (json!({"storage": "zfs", "size": true}), "expected a size"),
            (json!("zfs: 1"), "contains a blank"),
            (json!("zfs:1,cache=wb"), "cache must be one of none, "),
            (json!("zfs:1,queues=1"), "queues must be a whole number"),
            (json!("zfs:1,iothread=maybe"), "iothread must be a boolean"),
            (
                json!({"storage": "zfs", "size": 1, "efitype": "4m"}),
                "efitype is not one of",
            ),
        ] {
            let error = Drive::parse("scsi0", &value).unwrap_err();
            assert!(
                error.starts_with("scsi0: ") && error.contains(part),
                "{error}"
            );
        }
    }

    #[test]
    fn each_bus_has_its_own_options() {
        for (key, value, part) in [
            (
                "virtio0",
                json!({"storage": "zfs", "size": 1, "ssd": true}),
                "ssd is not an option of this drive; only of ide, sata, scsi",
            ),
            ("sata0", json!("zfs:1,iothread=1"), "only of scsi, virtio"),
            (
                "efidisk0",
                json!({"storage": "zfs", "type": "4m"}),
                "type is not one of efitype, format, ",
            ),
            (
                "efidisk0",
                json!({"storage": "zfs", "efitype": "4M"}),
                "efitype must be one of 2m, 4m",
            ),
            (
                "tpmstate0",
                json!({"storage": "zfs", "version": 3}),
                "version must be one of v1.2, v2.0",
            ),
        ] {
            let error = Drive::parse(key, &value).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
        Drive::parse("virtio0", &json!("zfs:1,iothread=1,ro=0")).unwrap();
        Drive::parse(
            "scsi0",
            &json!({"storage": "zfs", "size": "10 GiB", "ssd": 1}),
        )
        .unwrap();
        // What a later PVE may have.
        Drive::parse("scsi0", &json!("zfs:1,shiny=1")).unwrap();
    }

    #[test]
    fn what_differs_in_meaning_is_edited_and_nothing_else() {
        let disk = "local:101/vm-101-disk-0.raw";
        let have = |options: &str| format!("{disk}{options},size=32G");
        for (want, have, expected) in [
            ("local:32", have(""), Difference::None),
            ("local:32,format=raw", have(""), Difference::None),
            (
                "local:32,mbps=10.0,wwn=0xAB",
                have(",mbps=10,wwn=0xab"),
                Difference::None,
            ),
            (
                "local:32,discard=ignore,backup=1,ssd=no",
                have(""),
                Difference::None,
            ),
            ("local:32,discard=on", have(",discard=on"), Difference::None),
            ("local:32,discard=on", have(""), edit(&have(",discard=on"))),
            ("local:32", have(",iothread=1"), edit(&have(""))),
            (
                "local:40,ssd=1",
                have(""),
                Difference::Edit {
                    text: Some(have(",ssd=1")),
                    grow: Some(40 << 30),
                },
            ),
            ("local:101/vm-101-disk-0.raw", have(""), Difference::None),
            (
                "local:101/vm-101-disk-0.raw,size=33G",
                have(""),
                Difference::Edit {
                    text: None,
                    grow: Some(33 << 30),
                },
            ),
            (
                "local:iso/a.iso,media=cdrom",
                "local:iso/a.iso,media=cdrom,size=352K".into(),
                Difference::None,
            ),
            (
                "local:iso/b.iso,media=cdrom",
                "local:iso/a.iso,media=cdrom,size=352K".into(),
                edit("local:iso/b.iso,media=cdrom"),
            ),
            (
                "none",
                "local:iso/a.iso,media=cdrom".into(),
                edit("none,media=cdrom"),
            ),
            (
                "local:cloudinit",
                "local:101/vm-101-cloudinit.qcow2,media=cdrom".into(),
                Difference::None,
            ),
            (
                "zfs:cloudinit",
                "zfs:vm-101-cloudinit,media=cdrom".into(),
                Difference::None,
            ),
        ] {
            let outcome = drive(json!(want)).against("scsi0", &drive(json!(have)));
            assert_eq!(outcome, expected, "{want} against {have}");
        }
    }

    #[test]
    fn disks_are_never_shrunk_or_replaced() {
        let disk = "local:101/vm-101-disk-0.raw,size=32G";
        for (want, have, part) in [
            ("local:16", disk, "never shrunk"),
            (
                "local:32,format=qcow2",
                disk,
                "the disk is raw and not qcow2",
            ),
            (
                "zfs:32,format=qcow2",
                "zfs:vm-101-disk-0,size=32G",
                "the disk is raw and not qcow2",
            ),
            (
                "local:32,format=raw",
                "local:101/vm-101-disk-0.qcow2,size=32G",
                "the disk is qcow2 and not raw",
            ),
            ("zfs:32", "/dev/sdb", "on no storage"),
            ("local:101/vm-101-disk-7.raw", disk, "never replaced"),
            ("local:iso/a.iso,media=cdrom", disk, "there is a disk"),
            (
                "local:32",
                "local:iso/a.iso,media=cdrom",
                "there is a CD-ROM",
            ),
            (
                "none",
                "local:101/vm-101-cloudinit.qcow2,media=cdrom",
                "cloud-init drive",
            ),
            ("local:cloudinit", "none,media=cdrom", "remove it first"),
        ] {
            let outcome = drive(json!(want)).against("scsi0", &drive(json!(have)));
            assert!(
                matches!(&outcome, Difference::Refused(text) if text.contains(part)),
                "{want} against {have}: {outcome:?}"
            );
        }
    }

    #[test]
    fn a_disk_on_another_storage_moves() {
        let have = drive(json!("local:101/vm-101-disk-0.raw,size=32G"));
        assert_eq!(
            drive(json!("zfs:32")).against("scsi0", &have),
            Difference::Move("zfs".into())
        );
    }

    #[test]
    fn state_disks_are_compared_by_what_is_described() {
        let have = drive(json!(
            "local:130/vm-130-disk-4.raw,efitype=4m,ms-cert=2023,size=528K"
        ));
        let same = drive(json!("local:1,efitype=4m"));
        assert_eq!(same.against("efidisk0", &have), Difference::None);
        let other = drive(json!("local:1,efitype=4m,pre-enrolled-keys=1"));
        assert!(matches!(
            other.against("efidisk0", &have),
            Difference::Refused(_)
        ));
    }
}
