//! What a VM boots and what disks it has, read from its configuration.

use pve_client::property::parse_bool;
use pve_module::record::Record;
use serde_json::{Map, Value};

use crate::error::{Refusal, Why};
use crate::facts::{Beside, Facts, First, Layout, Seed, Vm};
use crate::options::Settings;

/// The volume of a drive.
pub fn volume(value: &str) -> &str {
    value
        .split(',')
        .next()
        .unwrap_or_default()
        .trim_start_matches("file=")
}

/// What a VM boots, by the drives that the variables name.
pub fn layout(settings: &Settings, vmid: u32, config: &impl Fn(&str) -> Option<String>) -> Layout {
    let volume = |key: &str| {
        let text = config(key)?;
        let volume = volume(&text).to_owned();
        (volume != "none").then_some(volume)
    };
    let disk_key = settings.boot_disk();
    let seed = match volume(&settings.seed_drive) {
        None => Seed::None,
        Some(volume) if is_seed_of(&volume, vmid) => Seed::Ours,
        Some(volume) => Seed::Other(volume),
    };
    // The whole order: Proxmox VE takes a disk that is removed out of it, so that another one in its place is noticed. A drive that is
    // attached is put at its end, which the next write puts right again.
    let boot = config("boot").unwrap_or_default();
    let devices: Vec<&str> = boot
        .trim_start_matches("order=")
        .split(';')
        .filter(|device| *device != settings.seed_drive)
        .collect();
    let (disk, installer) = (disk_key.as_str(), settings.installer_drive.as_str());
    let first = match devices.as_slice() {
        [a, b] if (*a, *b) == (disk, installer) => First::Disk,
        [a, b] if (*a, *b) == (installer, disk) => First::Installer,
        [a] if *a == disk => First::Disk,
        _ => First::Other(boot),
    };
    Layout {
        disk: volume(&disk_key),
        disk_key,
        installer: volume(&settings.installer_drive),
        seed,
        first,
    }
}

/// Refuse a machine whose boot disk is another one than its record names.
///
/// # Errors
/// Kind `not_as_left`.
pub fn same_disk(facts: &Facts, vm: &Vm, record: &Record) -> Result<(), Refusal> {
    match (&record.disk, &vm.layout.disk) {
        // A run that ended before it recorded the disk: the VM was never started.
        (None, _) => Ok(()),
        (Some(made), Some(now)) if made == now => Ok(()),
        (Some(made), now) => {
            let (now, made) = (now.as_deref().unwrap_or("no disk").to_owned(), made.clone());
            Err(Refusal::new(facts, vm, Why::OtherDisk { now, made }))
        }
    }
}

/// Whether an option gives a VM devices of the node, or arguments for QEMU, and so perhaps disks that Proxmox VE does not know.
pub fn reaches_disks(key: &str, value: &str) -> bool {
    let indexed = |stem: &str| {
        let index = key.strip_prefix(stem).unwrap_or_default();
        !index.is_empty() && index.bytes().all(|byte| byte.is_ascii_digit())
    };
    indexed("hostpci")
        || indexed("virtiofs")
        || (indexed("usb") && !value.starts_with("spice") && value != "host=spice")
        || key == "args"
}

/// What a VM has beside its boot disk, the installer and the seed. `vm` is what `proxmox_nixos_vm` returns, `aside` are the volumes that
/// this controller's reinstallations detached.
pub fn beside(settings: &Settings, vm: &Map<String, Value>, aside: &[String]) -> Beside {
    let mut beside = Beside::default();
    let boot_disk = settings.boot_disk();
    let is_other_disk = |key: &str, value: &str| {
        let mut parts = value.split(',');
        let is_disk = pve_schema::is_drive(key) && !pve_schema::is_state_disk(key);
        let empty = parts
            .next()
            .is_none_or(|volume| matches!(volume, "none" | ""));
        is_disk && key != boot_disk && !empty && !parts.any(|part| part == "media=cdrom")
    };
    let no_config = Map::new();
    let config = vm
        .get("config")
        .and_then(Value::as_object)
        .unwrap_or(&no_config);
    for (key, value) in config {
        let value = value.as_str().unwrap_or_default();
        if is_other_disk(key, value) {
            beside.disks.push((key.clone(), value.to_owned()));
        } else if key.starts_with("unused") {
            beside.unused.push(volume(value).to_owned());
        } else if reaches_disks(key, value) {
            beside.devices.push(key.clone());
        } else if key == "protection" {
            beside.protected = parse_bool(value) == Some(true);
        }
    }
    let pending = vm.get("pending").and_then(Value::as_array);
    for line in pending.into_iter().flatten() {
        let text = |name: &str| line.get(name).and_then(Value::as_str);
        let Some(key) = text("key") else { continue };
        let values = [text("value"), text("pending")];
        if values
            .into_iter()
            .flatten()
            .any(|value| is_other_disk(key, value))
        {
            beside.pending.push(key.to_owned());
        }
    }
    let unused = beside.unused.iter();
    beside.detached = unused
        .filter(|volume| aside.contains(volume))
        .cloned()
        .collect();
    let drives = [&settings.installer_drive, &settings.seed_drive];
    let disks = beside.disks.iter().map(|(key, _)| key);
    beside.in_the_way = disks.filter(|key| drives.contains(key)).cloned().collect();
    let mut described = settings.described_by_user();
    described.retain(|key| !config.contains_key(key));
    beside.absent = described;
    beside
}

/// The bytes that were written to a drive since the VM was started; none if that is not known.
pub fn written(status: &Value, drive: &str) -> Option<u64> {
    status
        .get("blockstat")?
        .get(drive)?
        .get("wr_bytes")?
        .as_u64()
}

/// Whether a volume is a seed ISO that `cloudinit_drive` made for this VM.
fn is_seed_of(volume: &str, vmid: u32) -> bool {
    let name = volume.rsplit(['/', ':']).next().unwrap_or_default();
    name.starts_with(&format!("nixos-proxmox-seed-{vmid}-"))
}
