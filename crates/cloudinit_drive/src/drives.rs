//! The drives of a VM.

/// Whether this names a drive that can be a CD-ROM.
pub fn is_drive(key: &str) -> bool {
    let number = |prefix: &str, most: u8| {
        key.strip_prefix(prefix).is_some_and(|n| {
            // No leading zeros, no sign: Proxmox VE knows none such.
            n.parse::<u8>()
                .is_ok_and(|value| value <= most && value.to_string() == n)
        })
    };
    number("ide", 3) || number("sata", 5) || number("scsi", 30)
}
