//! Comparing a drive that is described with the one that there is.

use std::collections::BTreeMap;

use pve_client::property;
use pve_schema::{drive_key, is_state_disk};

use crate::config::drive::description::{Drive, Source};
use crate::config::size::{self, Fit};

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

impl Drive {
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
                    .filter(|(name, _)| !is_create_only(name))
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
            .filter(|name| !is_create_only(name))
            .filter(|name| normal(&self.options, name) != normal(&have.options, name))
            .collect()
    }
}

/// The value of an option in one spelling, or what its absence means.
fn normal(options: &BTreeMap<String, String>, name: &str) -> Option<String> {
    let default = || drive_key(name)?.default;
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

/// Whether an option only describes how a volume is made, and is not part of the drive afterwards.
fn is_create_only(name: &str) -> bool {
    drive_key(name).is_some_and(|key| key.create_only)
}
