//! The boot order in PVE's form; PVE's legacy form is refused.

use serde_json::Value;

use crate::config::drive::{self, Drive};
use crate::config::{normalise, text, validation};
use crate::desired::from_options::Builder;

impl Builder {
    pub(super) fn boot(&mut self, given: &Value) {
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
    pub(super) fn refuse_legacy_boot(&mut self) {
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
}
