//! What a machine type can have: QEMU refuses to start a VM with a drive that its machine lacks.

use pve_client::property::PropertyString;

/// The type in the option `machine`.
pub fn machine_type(text: &str) -> String {
    let parts = PropertyString::parse(text, Some("type"));
    let kind = parts
        .ok()
        .and_then(|parts| parts.get("type").map(str::to_owned));
    kind.unwrap_or_default()
}

/// Why a machine does not have the drive `key`, or its architecture not the machine, if that is so.
pub fn refusal(key: &str, machine: Option<&str>, arch: Option<&str>) -> Option<&'static str> {
    let machine = machine_type(machine.unwrap_or_default());
    if key == "machine" && arch == Some("aarch64") && machine.starts_with(['p', 'q']) {
        return Some("an aarch64 machine is virt; leave it out, or write virt");
    }
    if !key
        .strip_prefix("ide")
        .is_some_and(pve_schema::syntax::is_index)
    {
        return None;
    }
    if arch == Some("aarch64") || machine.starts_with("virt") {
        Some("an aarch64 machine (virt) has no IDE; use scsi, for example scsi1")
    } else if machine.contains("q35") && !["ide0", "ide2"].contains(&key) {
        Some("a q35 machine has ide0 and ide2 only; use one of these, or sata or scsi")
    } else {
        None
    }
}
