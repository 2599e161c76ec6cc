//! Reading values of a VM configuration as PVE writes them.

use std::collections::BTreeMap;

/// A VM's configuration: option to value, as PVE writes them.
pub(super) type Config = BTreeMap<String, String>;

/// A property string such as `local:101/vm-101-disk-0.raw,discard=on,size=2G`: the value without a
/// key, if there is one, and the keyed ones.
pub(super) struct Properties<'a> {
    /// The value of the format's default key.
    pub first: Option<&'a str>,
    keyed: Vec<(&'a str, &'a str)>,
}

impl<'a> Properties<'a> {
    /// Split `text`. The default key may also be spelled out: then it is among the keyed values.
    pub(super) fn parse(text: &'a str) -> Self {
        let mut first = None;
        let mut keyed = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((key, value)) => keyed.push((key, value)),
                None => first = first.or(Some(part)),
            }
        }
        Self { first, keyed }
    }

    /// The value of `key`.
    pub(super) fn get(&self, key: &str) -> Option<&'a str> {
        self.keyed
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| *value)
    }

    /// The value of `key`, which may be given without its name.
    pub(super) fn default_key(&self, key: &str) -> Option<&'a str> {
        self.first.or_else(|| self.get(key))
    }

    /// Whether the flag `key` is on.
    pub(super) fn on(&self, key: &str) -> bool {
        self.get(key).is_some_and(truthy)
    }

    /// The keyed values in the order written.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.keyed.iter().copied()
    }
}

/// PVE's booleans.
pub(super) fn truthy(value: &str) -> bool {
    matches!(value, "1" | "on" | "yes" | "true")
}

/// Whether the VM has the device that the guest agent talks through.
pub(super) fn agent_enabled(config: &Config) -> bool {
    config.get("agent").is_some_and(|value| {
        Properties::parse(value)
            .default_key("enabled")
            .is_some_and(truthy)
    })
}

/// The number at the end of a key such as `net0`, if the rest is `prefix`.
pub(super) fn index(key: &str, prefix: &str) -> Option<u32> {
    let digits = key.strip_prefix(prefix)?;
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

/// The keys `prefixN` that are set, by number.
pub(super) fn indexed<'a>(config: &'a Config, prefix: &str) -> Vec<(u32, &'a str, &'a str)> {
    let mut found: Vec<_> = config
        .iter()
        .filter_map(|(key, value)| Some((index(key, prefix)?, key.as_str(), value.as_str())))
        .collect();
    found.sort_unstable_by_key(|(index, ..)| *index);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn property_strings() {
        let drive = Properties::parse("local:101/vm-101-disk-0.raw,discard=on,size=2G");
        assert_eq!(
            drive.default_key("file"),
            Some("local:101/vm-101-disk-0.raw")
        );
        assert!(drive.on("discard"));
        assert_eq!(drive.get("size"), Some("2G"));
        assert_eq!(
            Properties::parse("file=none,media=cdrom").default_key("file"),
            Some("none")
        );
    }

    #[test]
    fn agent_and_indices() {
        let with = |value: &str| Config::from([("agent".to_owned(), value.to_owned())]);
        assert!(agent_enabled(&with("1")));
        assert!(agent_enabled(&with("enabled=1,fstrim_cloned_disks=1")));
        assert!(!agent_enabled(&with("0")));
        assert!(!agent_enabled(&Config::new()));
        assert_eq!(index("net10", "net"), Some(10));
        assert_eq!(index("netx", "net"), None);
        assert_eq!(index("scsihw", "scsi"), None);
    }
}
