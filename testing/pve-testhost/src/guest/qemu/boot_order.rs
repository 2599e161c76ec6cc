//! The order in which the firmware tries the devices.

use super::drive_key;
use crate::guest::config::{Config, Properties, indexed};

/// What the firmware tries, in order.
pub(super) struct BootOrder(pub(super) Vec<String>);

impl BootOrder {
    pub(super) fn of(config: &Config) -> Self {
        let boot = config.get("boot").map(String::as_str).unwrap_or_default();
        if let Some(order) = Properties::parse(boot).get("order") {
            return Self(order.split(';').map(str::to_owned).collect());
        }
        // Before there was `order`: letters for disk, CD-ROM and network, and one boot disk.
        let letters = Properties::parse(boot)
            .default_key("legacy")
            .unwrap_or("cdn");
        let first = |cdrom: bool| {
            let mut drives = config.iter().filter(|(key, _)| drive_key(key).is_some());
            drives.find(|(_, value)| {
                (Properties::parse(value).get("media") == Some("cdrom")) == cdrom
            })
        };
        let disk = config.get("bootdisk").cloned();
        let disk = disk.or_else(|| Some(first(false)?.0.clone()));
        let order = letters.chars().filter_map(|letter| match letter {
            'c' => disk.clone(),
            'd' => Some(first(true)?.0.clone()),
            'n' => Some(indexed(config, "net").first()?.1.to_owned()),
            _ => None,
        });
        Self(order.collect())
    }

    pub(super) fn index(&self, key: &str) -> Option<usize> {
        let position = self.0.iter().position(|device| device == key)?;
        Some(100 + position)
    }
}
