//! Reading a drive: PVE's text, or a dict of a user.

use std::collections::BTreeMap;

use pve_client::property::{self, PropertyString};
use pve_schema::{DRIVE, Kind, drive_key, drive_keys, is_state_disk, syntax};
use serde_json::Value;

use crate::config::drive::description::{Drive, Source};
use crate::config::{dict, kind, size, text};

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
        for (name, value) in &self.options {
            match drive_keys(key).find(|known| known.name == name) {
                Some(known) => kind::check(&known.kind, value)
                    .map_err(|expected| format!("{name} must be {expected} (got '{value}')"))?,
                // What a later PVE may have is left to it.
                None => refuse_other_bus(name)?,
            }
        }
        Ok(self)
    }

    /// Read PVE's text.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let text = text::without_blanks(text);
        let parts = PropertyString::parse(&text, Some("file")).map_err(|e| e.to_string())?;
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
                    let known = drive_keys(key).map(|known| known.name);
                    let known: Vec<&str> = known.chain(["storage", "iso", "volume"]).collect();
                    if name != "file" && !known.contains(&name.as_str()) {
                        refuse_other_bus(name)?;
                        dict::check_key(name, &known)?;
                    }
                    fields.insert(name.clone(), value);
                }
            }
        }
        let (is_iso, bytes) = put_volume(key, &mut fields, size.as_deref())?;
        if let Some(media) = is_iso.then(|| "cdrom".into()).or(media) {
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
        let bytes = size::parse(name).ok_or_else(|| format!("'{name}' is not a number of GiB"))?;
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

/// Replace the fields `storage`, `iso` and `volume` of a dict by PVE's field `file`. Returns whether it is an ISO, and the
/// size in bytes.
fn put_volume(
    key: &str,
    fields: &mut BTreeMap<String, String>,
    size: Option<&str>,
) -> Result<(bool, Option<u64>), String> {
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
    let bytes = match size {
        Some(text) => Some(size::parse(text).ok_or_else(|| {
            format!(
                "size '{text}' is not a size; write 32G, 512M, or 32 for GiB (PVE allocates GiB)"
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
        fields.insert("file".into(), iso);
        return Ok((true, bytes));
    } else if let Some(volume) = volume.or(file) {
        fields.insert("file".into(), volume);
    }
    Ok((false, bytes))
}

/// Whether a drive's option is a boolean, whatever the drive.
fn is_boolean(name: &str) -> bool {
    drive_key(name).is_some_and(|key| matches!(key.kind, Kind::Flag))
}

/// Refuse an option that only drives of other buses have.
fn refuse_other_bus(name: &str) -> Result<(), String> {
    let mut keys = DRIVE.iter().filter(|key| !key.buses.is_empty());
    match keys.find(|key| key.name == name) {
        Some(key) => Err(format!(
            "{name} is not an option of this drive; only of {}",
            key.buses.join(", ")
        )),
        None => Ok(()),
    }
}

/// Whether PVE named this volume as a VM's cloud-init drive: `vm-101-cloudinit`, with folder and suffix on some storages.
fn is_cloudinit_volume(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stem = file.split('.').next().unwrap_or(file);
    stem.strip_prefix("vm-")
        .and_then(|rest| rest.strip_suffix("-cloudinit"))
        .is_some_and(syntax::is_index)
}
