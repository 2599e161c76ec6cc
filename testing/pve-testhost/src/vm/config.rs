//! A VM's configuration file, in PVE's own format.

use std::collections::BTreeMap;
use std::path::PathBuf;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use sha1::{Digest, Sha1};

use super::drive::{Drive, is_drive};
use crate::error::ApiError;
use crate::files::write_private;
use crate::host::Host;

/// What is escaped in the description's comment lines.
const COMMENT: &AsciiSet = &CONTROLS.add(b'%').add(b':');

/// A configuration: `ID.conf` among those of its node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Options in force; `description` among them.
    pub current: BTreeMap<String, String>,
    /// Values waiting for the next stop or start.
    pub pending: BTreeMap<String, String>,
    /// Options whose deletion waits, each with whether a disk's volume goes with it.
    pub delete: BTreeMap<String, bool>,
    /// Cloud-init options changed since the drive was written: what they were then, or none when they were not set.
    pub cloudinit: BTreeMap<String, Option<String>>,
    /// Snapshots by name: the options of then, and `snaptime`, `parent`, `snapstate`, `vmstate`, `description` of the snapshot itself.
    pub snapshots: BTreeMap<String, BTreeMap<String, String>>,
    /// SHA-1 of the file.
    pub digest: String,
}

fn path(host: &Host, vmid: u32) -> PathBuf {
    host.configs.join(format!("{vmid}.conf"))
}

/// The text for a VM that does not exist.
pub fn missing(host: &Host, vmid: u32) -> ApiError {
    ApiError::failed(format!(
        "Configuration file 'nodes/{}/qemu-server/{vmid}.conf' does not exist",
        host.node
    ))
}

impl Config {
    /// Read a VM's configuration.
    pub fn load(host: &Host, vmid: u32) -> Result<Self, ApiError> {
        let text = std::fs::read_to_string(path(host, vmid)).map_err(|_| missing(host, vmid))?;
        Ok(Self::parse(&text))
    }

    /// Write it; the digest changes with it.
    ///
    /// As in PVE an `unusedN` goes whose volume a drive has (again).
    pub fn save(&mut self, host: &Host, vmid: u32) -> std::io::Result<()> {
        let used: Vec<String> = self
            .current
            .iter()
            .chain(&self.pending)
            .filter(|(key, _)| is_drive(key))
            .map(|(_, value)| Drive::parse(value).file)
            .collect();
        self.current
            .retain(|key, value| !key.starts_with("unused") || !used.contains(value));
        let text = self.render();
        self.digest = digest(&text);
        write_private(&path(host, vmid), text.as_bytes())
    }

    /// Remove the file.
    pub fn remove(host: &Host, vmid: u32) -> std::io::Result<()> {
        std::fs::remove_file(path(host, vmid))
    }

    /// Hand the VM over to another node.
    pub fn hand_over(host: &Host, target: &Host, vmid: u32) -> std::io::Result<()> {
        std::fs::rename(path(host, vmid), path(target, vmid))
    }

    /// Read the file's format.
    pub fn parse(text: &str) -> Self {
        let mut config = Self {
            digest: digest(text),
            ..Self::default()
        };
        let mut section = "";
        for line in text.lines() {
            if let Some(name) = line
                .strip_prefix('[')
                .and_then(|line| line.strip_suffix(']'))
            {
                section = name;
                if is_snapshot(section) {
                    config.snapshots.entry(section.to_owned()).or_default();
                }
            } else if let Some(comment) = line.strip_prefix('#') {
                let decoded = percent_decode_str(comment).decode_utf8_lossy();
                let options = match section {
                    "" => &mut config.current,
                    name if is_snapshot(name) => {
                        config.snapshots.entry(name.to_owned()).or_default()
                    }
                    _ => continue,
                };
                options
                    .entry("description".into())
                    .and_modify(|before| {
                        before.push('\n');
                        before.push_str(&decoded);
                    })
                    .or_insert_with(|| decoded.into_owned());
            } else if let Some((key, value)) =
                line.split_once(": ").or_else(|| line.split_once(':'))
            {
                // PVE reads an empty value as one blank.
                let value = if value.is_empty() { " " } else { value };
                let (key, value) = (key.trim().to_owned(), value.to_owned());
                match section {
                    "" => {
                        config.current.insert(key, value);
                    }
                    "PENDING" if key == "delete" => {
                        config
                            .delete
                            .extend(
                                value
                                    .split(',')
                                    .filter(|name| !name.is_empty())
                                    .map(|name| match name.strip_prefix('!') {
                                        Some(name) => (name.to_owned(), true),
                                        None => (name.to_owned(), false),
                                    }),
                            );
                    }
                    "PENDING" => {
                        config.pending.insert(key, value);
                    }
                    "special:cloudinit" if key == "added" => {
                        config
                            .cloudinit
                            .extend(value.split(',').map(|name| (name.trim().to_owned(), None)));
                    }
                    "special:cloudinit" => {
                        config.cloudinit.insert(key, Some(value));
                    }
                    name if is_snapshot(name) => {
                        let snapshot = config.snapshots.entry(name.to_owned()).or_default();
                        snapshot.insert(key, value);
                    }
                    _ => {}
                }
            }
        }
        config
    }

    fn render(&self) -> String {
        let mut text = String::new();
        let section = |map: &BTreeMap<String, String>| -> String {
            let mut text = String::new();
            let description = map.get("description").filter(|text| !text.is_empty());
            for line in description.iter().flat_map(|text| text.split('\n')) {
                text += &format!("#{}\n", utf8_percent_encode(line, COMMENT));
            }
            for (key, value) in map.iter().filter(|(key, _)| *key != "description") {
                text += &format!("{key}: {value}\n");
            }
            text
        };
        text += &section(&self.current);
        if !self.pending.is_empty() || !self.delete.is_empty() {
            text += "\n[PENDING]\n";
            if !self.delete.is_empty() {
                let names: Vec<String> = self
                    .delete
                    .iter()
                    .map(|(name, force)| format!("{}{name}", if *force { "!" } else { "" }))
                    .collect();
                text += &format!("delete: {}\n", names.join(","));
            }
            text += &section(&self.pending);
        }
        if !self.cloudinit.is_empty() {
            text += "\n[special:cloudinit]\n";
            let added: Vec<&str> = self
                .cloudinit
                .iter()
                .filter(|(_, before)| before.is_none())
                .map(|(key, _)| key.as_str())
                .collect();
            if !added.is_empty() {
                text += &format!("added: {}\n", added.join(","));
            }
            for (key, before) in &self.cloudinit {
                if let Some(before) = before {
                    text += &format!("{key}: {before}\n");
                }
            }
        }
        for (name, options) in &self.snapshots {
            text += &format!("\n[{name}]\n{}", section(options));
        }
        text
    }

    /// What the options will be once the pending changes are applied.
    pub fn effective(&self) -> BTreeMap<String, String> {
        let mut effective = self.current.clone();
        effective.retain(|key, _| !self.delete.contains_key(key));
        effective.extend(self.pending.clone());
        effective
    }

    /// Is it locked by this?
    pub fn has_lock(&self, lock: &str) -> bool {
        self.current.get("lock").is_some_and(|known| known == lock)
    }

    /// Fail when it is locked, as PVE does.
    pub fn check_lock(&self) -> Result<(), String> {
        match self.current.get("lock") {
            Some(lock) => Err(format!("VM is locked ({lock})")),
            None => Ok(()),
        }
    }
}

/// Is this section a snapshot, not one of PVE's own?
fn is_snapshot(section: &str) -> bool {
    !(section.is_empty() || section == "PENDING" || section.contains(':'))
}

fn digest(text: &str) -> String {
    hex::encode(Sha1::digest(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut config = Config::default();
        for (key, value) in [
            ("memory", "512"),
            ("description", "a: b\n50%\nc"),
            ("boot", "order=scsi0;ide2"),
            ("name", "x"),
        ] {
            config.current.insert(key.into(), value.into());
        }
        config.pending.insert("memory".into(), "1024".into());
        config.delete.insert("ide2".into(), false);
        config.delete.insert("scsi1".into(), true);
        config.cloudinit.insert("ciuser".into(), None);
        config
            .cloudinit
            .insert("ipconfig0".into(), Some("ip=dhcp".into()));
        config.snapshots.insert(
            "s1".into(),
            [("description", "first\nline"), ("memory", "256")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        );
        config.snapshots.insert("empty".into(), BTreeMap::new());
        let text = config.render();
        let mut read = Config::parse(&text);
        read.digest = String::new();
        assert_eq!(read, config, "{text}");
        assert!(
            text.contains("\n[PENDING]\ndelete: ide2,!scsi1\nmemory: 1024\n"),
            "{text}"
        );
        assert!(
            text.ends_with("\n[s1]\n#first\n#line\nmemory: 256\n"),
            "{text}"
        );
    }
}
