//! Drives of a configuration: their keys, values and volumes.

use std::collections::BTreeMap;

/// Is this the key of a drive (disks, CD-ROMs, EFI and TPM state)?
pub fn is_drive(key: &str) -> bool {
    bus(key).is_some() || matches!(key, "efidisk0" | "tpmstate0")
}

/// The bus of a bootable drive's key.
pub fn bus(key: &str) -> Option<&'static str> {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    if name == key {
        return None;
    }
    ["ide", "sata", "scsi", "virtio"]
        .into_iter()
        .find(|bus| *bus == name)
}

/// Keys in the order PVE goes through drives: by bus, then by number.
pub fn order(key: &str) -> (usize, u32) {
    let name = key.trim_end_matches(|c: char| c.is_ascii_digit());
    let rank = [
        "ide", "scsi", "virtio", "sata", "efidisk", "tpmstate", "unused", "net",
    ]
    .iter()
    .position(|known| *known == name);
    (rank.unwrap_or(9), key[name.len()..].parse().unwrap_or(0))
}

/// A drive's value: `FILE,key=value,...`, order kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drive {
    /// A volume, `none`, `cdrom`, a path, or `STORAGE:SIZE` for a new one.
    pub file: String,
    /// The rest.
    pub options: Vec<(String, String)>,
}

impl Drive {
    /// Read a value (verified before).
    pub fn parse(value: &str) -> Self {
        let mut drive = Self {
            file: String::new(),
            options: Vec::new(),
        };
        for part in value.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some(("file" | "volume", file)) => file.clone_into(&mut drive.file),
                Some((key, value)) => drive.options.push((key.into(), value.into())),
                None => part.clone_into(&mut drive.file),
            }
        }
        drive
    }

    /// An option.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.options
            .iter()
            .find(|(known, _)| known == key)
            .map(|(_, value)| value.as_str())
    }

    /// Set an option; it goes last when new.
    pub fn set(&mut self, key: &str, value: &str) {
        match self.options.iter_mut().find(|(known, _)| known == key) {
            Some((_, known)) => value.clone_into(known),
            None => self.options.push((key.into(), value.into())),
        }
    }

    /// Take an option out.
    pub fn take(&mut self, key: &str) -> Option<String> {
        let at = self.options.iter().position(|(known, _)| known == key)?;
        Some(self.options.remove(at).1)
    }

    /// Is it a CD-ROM?
    pub fn is_cdrom(&self) -> bool {
        self.get("media") == Some("cdrom") || self.file == "none" || self.file == "cdrom"
    }

    /// Is it a cloud-init drive (or the wish for one)?
    pub fn is_cloudinit(&self) -> bool {
        let name = self.file.rsplit([':', '/']).next().unwrap_or("");
        name == "cloudinit"
            || (name.starts_with("vm-")
                && name
                    .split('.')
                    .next()
                    .is_some_and(|base| base.ends_with("-cloudinit")))
    }

    /// Is there a volume in it?
    pub fn has_medium(&self) -> bool {
        !matches!(self.file.as_str(), "none" | "cdrom" | "")
    }

    /// Storage and the rest of a volume id.
    pub fn volume(&self) -> Option<(&str, &str)> {
        if self.file.starts_with('/') {
            None
        } else {
            self.file.split_once(':')
        }
    }

    /// The size in GiB of `STORAGE:SIZE`, which asks for a new volume.
    pub fn allocation(&self) -> Option<(&str, f64)> {
        let (storage, size) = self.volume()?;
        let plain = !size.is_empty()
            && size
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'.');
        if plain {
            size.parse().ok().map(|size| (storage, size))
        } else {
            None
        }
    }

    /// As it is written: file first, options sorted, size last but for the order PVE prints them in.
    pub fn render(&self) -> String {
        let mut options = self.options.clone();
        options.sort();
        let mut text = self.file.clone();
        for (key, value) in options {
            text += &format!(",{key}={value}");
        }
        text
    }
}

/// The size a drive's value tells.
pub fn size_of(value: &str) -> Option<u64> {
    Drive::parse(value)
        .get("size")
        .and_then(crate::disk::parse_size)
}

/// The devices of a boot order; empty for a legacy or empty one.
pub fn boot_devices(boot: Option<&String>) -> Vec<String> {
    let order = boot
        .and_then(|boot| boot.strip_prefix("order="))
        .unwrap_or("");
    order
        .split(';')
        .filter(|device| !device.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Write a boot order; PVE keeps one blank when nothing is bootable.
pub fn boot_value(devices: &[String]) -> String {
    if devices.is_empty() {
        " ".into()
    } else {
        format!("order={}", devices.join(";"))
    }
}

/// First disk, first CD-ROM, first NIC: what PVE boots when nobody says.
pub fn default_boot(config: &BTreeMap<String, String>) -> Vec<String> {
    let mut drives: Vec<(&String, Drive)> = config
        .iter()
        .filter(|(key, _)| bus(key).is_some())
        .map(|(key, value)| (key, Drive::parse(value)))
        .collect();
    drives.sort_by_key(|(key, _)| order(key));
    let disk = drives
        .iter()
        .find(|(_, drive)| !drive.is_cdrom())
        .map(|(key, _)| (*key).clone());
    let cdrom = drives
        .iter()
        .filter(|(_, drive)| drive.is_cdrom())
        .map(|(key, _)| (*key).clone())
        .min();
    let net = config
        .keys()
        .filter(|key| is_net(key))
        .min_by_key(|key| order(key))
        .cloned();
    disk.into_iter().chain(cdrom).chain(net).collect()
}

/// The value of the first disk in the boot order.
pub fn boot_disk(config: &BTreeMap<String, String>) -> Option<String> {
    let devices = boot_devices(config.get("boot"));
    devices
        .iter()
        .filter_map(|device| config.get(device))
        .find(|value| !value.contains("media=cdrom") && size_of(value).is_some())
        .cloned()
}

/// Is this the key of a NIC?
pub fn is_net(key: &str) -> bool {
    key.strip_prefix("net")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn the_default_boot_order_misses_the_second_cdrom() {
        let config = config(&[
            ("scsi0", "local:101/vm-101-disk-0.raw,size=2G"),
            ("ide0", "local:101/vm-101-cloudinit.qcow2,media=cdrom"),
            ("ide2", "local:iso/x.iso,media=cdrom"),
            ("net0", "virtio=BC:24:11:00:00:01,bridge=vmbr0"),
        ]);
        assert_eq!(boot_value(&default_boot(&config)), "order=scsi0;ide0;net0");
        assert_eq!(boot_value(&[]), " ");
    }

    #[test]
    fn drives() {
        let drive = Drive::parse("file=local:32,discard=on");
        assert_eq!(drive.allocation(), Some(("local", 32.0)));
        assert!(Drive::parse("local:1G").allocation().is_none());
        assert!(Drive::parse("none,media=cdrom").is_cdrom());
        assert!(Drive::parse("local:cloudinit").is_cloudinit());
        assert!(Drive::parse("local-zfs:vm-101-cloudinit,media=cdrom").is_cloudinit());
        assert!(!Drive::parse("local:iso/cloudinit.iso,media=cdrom").is_cloudinit());
    }
}
