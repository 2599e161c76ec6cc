//! What texts of PVE's configuration look like.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Whether `text` is the number at the end of a key such as `scsi0`.
pub fn is_index(text: &str) -> bool {
    let plain = text == "0" || !text.starts_with('0');
    plain && !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit())
}

/// PVE's format `dns-name`, which names of VMs have (PVE::JSONSchema).
pub fn is_dns_name(text: &str) -> bool {
    let label = |label: &str| {
        let word = |c: u8| c.is_ascii_alphanumeric();
        let bytes = label.as_bytes();
        bytes.first().copied().is_some_and(word)
            && bytes.last().copied().is_some_and(word)
            && bytes.iter().all(|&c| word(c) || c == b'-')
            && bytes.len() <= 63
    };
    text.len() <= 253 && text.split('.').all(label)
}

fn all(text: &str, is: fn(char) -> bool) -> bool {
    !text.is_empty() && text.chars().all(is)
}

fn is_hex(text: &str) -> bool {
    all(text, |c| c.is_ascii_hexdigit())
}

fn is_digits(text: &str) -> bool {
    all(text, |c| c.is_ascii_digit())
}

/// A PCI ID of a vendor or device, such as `0x8086`.
pub fn is_hex_id(text: &str) -> bool {
    text.strip_prefix("0x")
        .is_some_and(|hex| hex.len() == 4 && is_hex(hex))
}

/// Numbers and ranges that are joined by `;`, such as `0-3;8`.
pub fn is_ranges(text: &str) -> bool {
    text.split(';').all(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, "0"));
        is_digits(first) && is_digits(last)
    })
}

/// PVE::QemuServer::CPUConfig: models are letters, digits, `-`, `_` and `.`; custom ones begin with `custom-`.
pub fn is_cpu_type(text: &str) -> bool {
    all(text, |c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// CPU flags that are switched on or off: `+aes;-pcid`.
pub fn is_cpu_flags(text: &str) -> bool {
    text.split(';').all(|flag| {
        flag.strip_prefix(['+', '-'])
            .is_some_and(|name| all(name, |c| c.is_ascii_alphanumeric() || "-_.".contains(c)))
    })
}

/// The key `hv-vendor-id` of `cpu`.
pub fn is_hv_vendor_id(text: &str) -> bool {
    text.len() <= 12 && all(text, |c| c.is_ascii_alphanumeric())
}

/// The key `phys-bits` of `cpu` (PVE's format `pve-phys-bits`).
pub fn is_phys_bits(text: &str) -> bool {
    let is_number = is_digits(text) && text.len() <= 2;
    let bits = text.parse::<u8>().ok().filter(|_| is_number);
    text == "host" || bits.is_some_and(|bits| (8..=64).contains(&bits))
}

/// What may be changed while the VM runs (PVE's format `pve-hotplug-features`).
pub fn is_hotplug(text: &str) -> bool {
    let known = ["network", "disk", "cpu", "memory", "usb", "cloudinit"];
    let mut features = text.split([',', ';', ' ', '\t', '\n', '\0']);
    matches!(text, "0" | "1")
        || features.all(|feature| feature.is_empty() || known.contains(&feature))
}

/// The start of the guest's clock.
pub fn is_startdate(text: &str) -> bool {
    let are_numbers = |text: &str, separator: char, first: usize| {
        let parts: Vec<&str> = text.split(separator).collect();
        let [one, two, three] = parts[..] else {
            return false;
        };
        let is_short = |part: &str| is_digits(part) && part.len() <= 2;
        is_digits(one)
            && is_short(two)
            && is_short(three)
            && (one.len() == first || (first == 2 && is_short(one)))
    };
    let (date, time) = text.split_once('T').unwrap_or((text, "0:0:0"));
    text == "now" || (are_numbers(date, '-', 4) && are_numbers(time, ':', 2))
}

/// PVE::QemuServer::PCI, `$PCIRE`.
pub fn is_pci(text: &str) -> bool {
    text.split(';').all(|address| {
        let (slot, function) = address.split_once('.').unwrap_or((address, "0"));
        let parts: Vec<&str> = slot.split(':').collect();
        let (domain, rest) = match parts.as_slice() {
            [bus, device] => ("0000", [*bus, *device]),
            [domain, bus, device] => (*domain, [*bus, *device]),
            _ => return false,
        };
        domain.len() >= 4
            && is_hex(domain)
            && rest.iter().all(|part| part.len() == 2 && is_hex(part))
            && function.len() == 1
            && is_hex(function)
    })
}

/// The name of a resource mapping (PVE's format `pve-configid`).
pub fn is_mapping(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.len() > 1
        && all(text, |c| c.is_ascii_alphanumeric() || "-_".contains(c))
}

/// A USB device: `spice`, vendor and product, or bus and port.
pub fn is_usb(text: &str) -> bool {
    let id = |text: &str| {
        let hex = text.strip_prefix("0x").unwrap_or(text);
        hex.len() == 4 && is_hex(hex)
    };
    let device = text
        .split_once(':')
        .is_some_and(|(vendor, product)| id(vendor) && id(product));
    let port = text
        .split_once('-')
        .is_some_and(|(bus, port)| is_digits(bus) && port.split('.').all(is_digits));
    text.eq_ignore_ascii_case("spice") || device || port
}

/// The key `ip` of `ipconfig*` (PVE's format `pve-ipv4-config`).
pub fn is_ip4_config(text: &str) -> bool {
    let address = text.split_once('/').is_some_and(|(ip, bits)| {
        ip.parse::<Ipv4Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 32)
    });
    text == "dhcp" || address
}

/// The key `ip6` of `ipconfig*` (PVE's format `pve-ipv6-config`).
pub fn is_ip6_config(text: &str) -> bool {
    let address = text.split_once('/').is_some_and(|(ip, bits)| {
        ip.parse::<Ipv6Addr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 128)
    });
    matches!(text, "dhcp" | "auto") || address
}

/// The pattern of `machine.type`: a name alone, or with a version, PVE's revision and `.pxe`.
pub fn is_machine(text: &str) -> bool {
    if matches!(text, "pc" | "q35" | "virt") {
        return true;
    }
    let prefixes = ["pc-i440fx-", "pc-q35-", "pc-", "virt-"];
    let Some(version) = prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)) else {
        return false;
    };
    let version = version.strip_suffix(".pxe").unwrap_or(version);
    let (version, revision) = version.split_once("+pve").unwrap_or((version, "0"));
    version.contains('.') && version.split('.').all(is_digits) && is_digits(revision)
}

/// A text of `smbios1`: plain letters and digits, or Base64.
pub fn is_smbios(text: &str) -> bool {
    let text = text.trim_end_matches('=');
    all(text, |c| c.is_ascii_alphanumeric() || "+/".contains(c))
}

/// A UUID in its usual form, in capitals or not.
pub fn is_uuid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.split('-').all(is_hex)
}

/// A tag (PVE's format `pve-tag`).
pub fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = |c: char| word(c) || "-+.".contains(c);
    text.starts_with(word) && text.chars().all(rest)
}

/// A serial port: a socket of QEMU's, or a device of the node.
pub fn is_serial(text: &str) -> bool {
    text == "socket" || text.starts_with("/dev/")
}

/// PVE's format `pve-bridge-id`.
pub fn is_bridge(text: &str) -> bool {
    text.chars()
        .all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

/// Six octets, whether of one NIC or of a group.
pub fn is_any_mac(text: &str) -> bool {
    let octets: Vec<&str> = text.split(':').collect();
    octets.len() == 6 && octets.iter().all(|octet| octet.len() == 2 && is_hex(octet))
}

/// A MAC address that a NIC can have: the lowest bit of the first octet marks a multicast address.
pub fn is_mac(text: &str) -> bool {
    let first = text
        .get(..2)
        .and_then(|octet| u8::from_str_radix(octet, 16).ok());
    is_any_mac(text) && first.is_some_and(|octet| octet & 1 == 0)
}
