//! The keys of drives, by bus.

use crate::Kind::{self, Any, Choice, Flag, Integer, Number};
use crate::syntax::is_index;
use crate::{Key, MOST, PARAMETERS};

const COUNT: Kind = Integer(0, MOST);
const LENGTH: Kind = Integer(1, MOST);
const FORMAT: Kind = Choice(&["raw", "qcow", "qed", "qcow2", "vmdk", "cloop"]);

/// The keys of `ide*`, `sata*`, `scsi*` and `virtio*`.
pub const DRIVE: &[Key] = &[
    Key::new("aio", Choice(&["native", "threads", "io_uring"])),
    Key::new("backup", Flag).default("1"),
    Key::new("bps", COUNT),
    Key::new("bps_max_length", LENGTH),
    Key::new("bps_rd", COUNT),
    Key::new("bps_rd_length", LENGTH).alias_of("bps_rd_max_length"),
    Key::new("bps_rd_max_length", LENGTH),
    Key::new("bps_wr", COUNT),
    Key::new("bps_wr_length", LENGTH).alias_of("bps_wr_max_length"),
    Key::new("bps_wr_max_length", LENGTH),
    Key::new(
        "cache",
        Choice(&["none", "writethrough", "writeback", "unsafe", "directsync"]),
    )
    .default("none"),
    Key::new("detect_zeroes", Flag).default("1"),
    Key::new("discard", Choice(&["ignore", "on"])).default("ignore"),
    Key::new("format", FORMAT).create_only(),
    Key::new("import-from", Any).create_only(),
    Key::new("iops", COUNT),
    Key::new("iops_max", COUNT),
    Key::new("iops_max_length", LENGTH),
    Key::new("iops_rd", COUNT),
    Key::new("iops_rd_length", LENGTH).alias_of("iops_rd_max_length"),
    Key::new("iops_rd_max", COUNT),
    Key::new("iops_rd_max_length", LENGTH),
    Key::new("iops_wr", COUNT),
    Key::new("iops_wr_length", LENGTH).alias_of("iops_wr_max_length"),
    Key::new("iops_wr_max", COUNT),
    Key::new("iops_wr_max_length", LENGTH),
    Key::new("mbps", Number),
    Key::new("mbps_max", Number),
    Key::new("mbps_rd", Number),
    Key::new("mbps_rd_max", Number),
    Key::new("mbps_wr", Number),
    Key::new("mbps_wr_max", Number),
    Key::new("media", Choice(&["cdrom", "disk"])),
    Key::new("replicate", Flag).default("1"),
    Key::new("rerror", Choice(&["ignore", "report", "stop"])),
    Key::new("serial", Any),
    Key::new("shared", Flag).default("0"),
    Key::new("size", Any),
    Key::new("snapshot", Flag).default("0"),
    Key::new("werror", Choice(&["enospc", "ignore", "report", "stop"])),
    Key::new("volume", Any),
    Key::new("iothread", Flag)
        .default("0")
        .buses(&["scsi", "virtio"]),
    Key::new("model", Any).buses(&["ide"]),
    Key::new("product", Any).buses(&["scsi"]),
    Key::new("queues", Integer(2, MOST)).buses(&["scsi"]),
    Key::new("ro", Flag).default("0").buses(&["scsi", "virtio"]),
    Key::new("scsiblock", Flag).default("0").buses(&["scsi"]),
    Key::new("ssd", Flag)
        .default("0")
        .buses(&["ide", "sata", "scsi"]),
    Key::new("vendor", Any).buses(&["scsi"]),
    Key::new("wwn", Any).buses(&["ide", "sata", "scsi"]),
];

/// The keys of `efidisk0`.
pub const EFIDISK: &[Key] = &[
    Key::new("efitype", Choice(&["2m", "4m"])).default("2m"),
    Key::new("format", FORMAT).create_only(),
    Key::new("import-from", Any).create_only(),
    Key::new("ms-cert", Any),
    Key::new("pre-enrolled-keys", Flag).default("0"),
    Key::new("size", Any),
];

/// The keys of `tpmstate0`.
pub const TPMSTATE: &[Key] = &[
    Key::new("format", FORMAT).create_only(),
    Key::new("import-from", Any).create_only(),
    Key::new("size", Any),
    Key::new("version", Choice(&["v1.2", "v2.0"])),
];

/// Whether `name` is the parameter of a drive.
pub fn is_drive(name: &str) -> bool {
    let index = ["ide", "sata", "scsi", "virtio"]
        .iter()
        .find_map(|bus| name.strip_prefix(bus));
    is_state_disk(name) || index.is_some_and(is_index)
}

/// Whether `name` is the parameter of a drive that can be a CD-ROM: virtio has none.
pub fn is_cdrom_drive(name: &str) -> bool {
    ["ide", "sata", "scsi"].iter().any(|bus| {
        let index = name.strip_prefix(bus).filter(|index| is_index(index));
        let count = PARAMETERS
            .iter()
            .find(|parameter| parameter.name.strip_suffix('*') == Some(bus))
            .and_then(|parameter| parameter.count);
        index
            .and_then(|index| index.parse().ok())
            .is_some_and(|index: u32| count.is_some_and(|count| index < count))
    })
}

/// Whether `name` is the parameter of a disk for the firmware's own state, whose content is made once.
pub fn is_state_disk(name: &str) -> bool {
    matches!(name, "efidisk0" | "tpmstate0")
}

/// The keys that the drive `name` can have.
pub fn drive_keys(name: &str) -> impl Iterator<Item = &'static Key> {
    let bus = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let keys = match name {
        "efidisk0" => EFIDISK,
        "tpmstate0" => TPMSTATE,
        _ => DRIVE,
    };
    keys.iter()
        .filter(move |key| key.buses.is_empty() || key.buses.contains(&bus))
}

/// The key `name`, whatever the drive.
pub fn drive_key(name: &str) -> Option<&'static Key> {
    let mut keys = DRIVE.iter().chain(EFIDISK).chain(TPMSTATE);
    keys.find(|key| key.name == name)
}
