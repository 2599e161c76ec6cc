//! The options that PVE's drives have, by bus.

use crate::config::property_strings::Kind::{self, Any, Choice, Flag, Integer, Number};
use crate::config::property_strings::MOST;

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
pub fn is_boolean(name: &str) -> bool {
    let of_all = OPTIONS.iter().chain(&EFIDISK_OPTIONS);
    let of_buses = BUS_OPTIONS.iter().map(|(option, kind, _)| (option, kind));
    let mut all = of_all.map(|(option, kind)| (option, kind)).chain(of_buses);
    all.any(|(option, kind)| *option == name && matches!(kind, Flag))
}

/// The options that the drive `key` can have.
pub fn options_of(key: &str) -> Vec<(&'static str, &'static Kind)> {
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

/// Refuse an option that only drives of other buses have.
pub fn refuse_other_bus(name: &str) -> Result<(), String> {
    match BUS_OPTIONS.iter().find(|(option, ..)| *option == name) {
        Some((.., buses)) => Err(format!(
            "{name} is not an option of this drive; only of {}",
            buses.join(", ")
        )),
        None => Ok(()),
    }
}
