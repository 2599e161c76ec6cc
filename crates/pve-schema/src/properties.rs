//! The keys of the parameters that are property strings, and those of NICs. A key that is not listed is left to PVE, which may
//! be a later one.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::Kind::{self, Any, Choice, Flag, Integer, Number, Text};
use crate::syntax::{
    is_bridge, is_cpu_flags, is_cpu_type, is_hex_id, is_hv_vendor_id, is_ip4_config, is_ip6_config,
    is_mac, is_machine, is_mapping, is_pci, is_phys_bits, is_ranges, is_smbios, is_usb, is_uuid,
};
use crate::{Key, MOST, Properties};

const HEX_ID: Kind = Text(is_hex_id, "0x and 4 hex digits");
/// Numbers and ranges, such as CPUs and VLANs.
const RANGES: Kind = Text(is_ranges, "numbers and ranges joined by ';', such as 0-3;8");
const SMBIOS: Kind = Text(
    is_smbios,
    "letters and digits, or Base64 together with base64=1",
);

pub const AGENT: Properties = Properties {
    default_key: Some("enabled"),
    keys: &[
        Key::new("enabled", Flag).default("0"),
        Key::new("freeze-fs", Flag).default("1"),
        Key::new("freeze-fs-on-backup", Flag).alias_of("freeze-fs"),
        Key::new("fstrim_cloned_disks", Flag).default("0"),
        Key::new("guest-fsfreeze", Flag).alias_of("freeze-fs"),
        Key::new("type", Choice(&["virtio", "isa"])).default("virtio"),
    ],
    one_of: &["enabled"],
};

pub const AMD_SEV: Properties = Properties {
    default_key: Some("type"),
    keys: &[],
    one_of: &[],
};

pub const AUDIO: Properties = Properties {
    default_key: None,
    keys: &[
        Key::new("device", Choice(&["ich9-intel-hda", "intel-hda", "AC97"])),
        Key::new("driver", Choice(&["spice", "none"])).default("spice"),
    ],
    one_of: &["device"],
};

pub const CPU: Properties = Properties {
    default_key: Some("cputype"),
    keys: &[
        Key::new(
            "cputype",
            Text(is_cpu_type, "a CPU type such as host or x86-64-v2-AES"),
        ),
        Key::new("flags", Text(is_cpu_flags, "+FLAG or -FLAG, joined by ';'")),
        Key::new("guest-phys-bits", Integer(32, 64)),
        Key::new("hidden", Flag).default("0"),
        Key::new(
            "hv-vendor-id",
            Text(is_hv_vendor_id, "1 to 12 letters and digits"),
        ),
        Key::new("level", Integer(0, 4_294_967_295)),
        Key::new(
            "phys-bits",
            Text(is_phys_bits, "host or a number between 8 and 64"),
        ),
        // PVE's format has the key, and refuses it for a VM.
        Key::new(
            "reported-model",
            Text(|_| false, "left out: only custom CPU models have it"),
        ),
    ],
    one_of: &["cputype"],
};

pub const HOSTPCI: Properties = Properties {
    default_key: Some("host"),
    keys: &[
        Key::new(
            "host",
            Text(is_pci, "PCI addresses such as 0000:01:00.0, joined by ';'"),
        ),
        Key::new("mapping", Text(is_mapping, "the name of a mapping")),
        Key::new("device-id", HEX_ID),
        Key::new("driver", Any),
        Key::new("legacy-igd", Flag).default("0"),
        Key::new("mdev", Any),
        Key::new("pcie", Flag).default("0"),
        Key::new("rombar", Flag).default("1"),
        Key::new("romfile", Any),
        Key::new("sub-device-id", HEX_ID),
        Key::new("sub-vendor-id", HEX_ID),
        Key::new("vendor-id", HEX_ID),
        Key::new("x-vga", Flag).default("0"),
    ],
    one_of: &["mapping", "host"],
};

pub const IPCONFIG: Properties = Properties {
    default_key: None,
    keys: &[
        Key::new(
            "ip",
            Text(
                is_ip4_config,
                "dhcp or an IPv4 address with its prefix, such as 192.0.2.10/24",
            ),
        ),
        Key::new(
            "gw",
            Text(|ip| ip.parse::<Ipv4Addr>().is_ok(), "an IPv4 address"),
        )
        .needs_fixed("ip"),
        Key::new(
            "ip6",
            Text(
                is_ip6_config,
                "dhcp, auto or an IPv6 address with its prefix, such as 2001:db8::10/64",
            ),
        ),
        Key::new(
            "gw6",
            Text(|ip| ip.parse::<Ipv6Addr>().is_ok(), "an IPv6 address"),
        )
        .needs_fixed("ip6"),
    ],
    one_of: &[],
};

pub const IVSHMEM: Properties = Properties {
    default_key: None,
    keys: &[Key::new("size", Integer(1, MOST)), Key::new("name", Any)],
    one_of: &["size"],
};

pub const MACHINE: Properties = Properties {
    default_key: Some("type"),
    keys: &[
        Key::new(
            "type",
            Text(
                is_machine,
                "pc, q35, virt, or one with a version such as pc-q35-9.2",
            ),
        ),
        Key::new("aw-bits", Integer(32, 64)),
        Key::new("enable-s3", Flag),
        Key::new("enable-s4", Flag),
        Key::new("viommu", Choice(&["intel", "virtio"])),
    ],
    one_of: &[],
};

pub const MEMORY: Properties = Properties {
    default_key: Some("current"),
    keys: &[Key::new("current", Integer(16, MOST))],
    one_of: &["current"],
};

pub const NUMA: Properties = Properties {
    default_key: None,
    keys: &[
        Key::new("cpus", RANGES),
        Key::new("hostnodes", RANGES),
        Key::new("memory", Number),
        Key::new("policy", Choice(&["preferred", "bind", "interleave"])),
    ],
    one_of: &["cpus"],
};

pub const RNG: Properties = Properties {
    default_key: Some("source"),
    keys: &[
        Key::new(
            "source",
            Choice(&["/dev/urandom", "/dev/random", "/dev/hwrng"]),
        ),
        Key::new("max_bytes", Integer(0, MOST)).default("1024"),
        Key::new("period", Integer(0, MOST)).default("1000"),
    ],
    one_of: &["source"],
};

pub const SMBIOS1: Properties = Properties {
    default_key: None,
    keys: &[
        Key::new("base64", Flag).default("0"),
        Key::new("family", SMBIOS),
        Key::new("manufacturer", SMBIOS),
        Key::new("product", SMBIOS),
        Key::new("serial", SMBIOS),
        Key::new("sku", SMBIOS),
        Key::new("uuid", Text(is_uuid, "a UUID")),
        Key::new("version", SMBIOS),
    ],
    one_of: &[],
};

pub const SPICE_ENHANCEMENTS: Properties = Properties {
    default_key: None,
    keys: &[
        Key::new("foldersharing", Flag).default("0"),
        Key::new("videostreaming", Choice(&["off", "all", "filter"])).default("off"),
    ],
    one_of: &[],
};

pub const STARTUP: Properties = Properties {
    default_key: Some("order"),
    keys: &[
        Key::new("order", Integer(0, MOST)),
        Key::new("up", Integer(0, MOST)),
        Key::new("down", Integer(0, MOST)),
    ],
    one_of: &[],
};

pub const USB: Properties = Properties {
    default_key: Some("host"),
    keys: &[
        Key::new(
            "host",
            Text(
                is_usb,
                "spice, VENDOR:PRODUCT such as 1a2b:3c4d, or BUS-PORT such as 1-2.3",
            ),
        ),
        Key::new("mapping", Text(is_mapping, "the name of a mapping")),
        Key::new("usb3", Flag).default("0"),
    ],
    one_of: &["mapping", "host"],
};

pub const VGA: Properties = Properties {
    default_key: Some("type"),
    keys: &[
        Key::new(
            "type",
            Choice(&[
                "cirrus",
                "qxl",
                "qxl2",
                "qxl3",
                "qxl4",
                "none",
                "serial0",
                "serial1",
                "serial2",
                "serial3",
                "std",
                "virtio",
                "virtio-gl",
                "vmware",
            ]),
        )
        .default("std"),
        Key::new("clipboard", Choice(&["vnc"])),
        Key::new("memory", Integer(4, 512)),
    ],
    one_of: &[],
};

pub const WATCHDOG: Properties = Properties {
    default_key: Some("model"),
    keys: &[
        Key::new("model", Choice(&["i6300esb", "ib700"])),
        Key::new(
            "action",
            Choice(&["reset", "shutdown", "poweroff", "pause", "debug", "none"]),
        ),
    ],
    one_of: &[],
};

/// The models of NICs. Each is also a key for the MAC address: `virtio=BC:24:11:00:00:01`.
pub const NIC_MODELS: &[&str] = &[
    "e1000",
    "e1000-82540em",
    "e1000-82544gc",
    "e1000-82545em",
    "e1000e",
    "i82551",
    "i82557b",
    "i82559er",
    "ne2k_isa",
    "ne2k_pci",
    "pcnet",
    "rtl8139",
    "virtio",
    "vmxnet3",
];

/// The keys of a NIC, apart from the models.
pub const NIC: Properties = Properties {
    default_key: Some("model"),
    keys: &[
        Key::new("model", Choice(NIC_MODELS)),
        Key::new(
            "macaddr",
            Text(is_mac, "a unicast MAC address such as BC:24:11:00:00:01"),
        ),
        Key::new("bridge", Text(is_bridge, "the name of one bridge")),
        Key::new("firewall", Flag),
        Key::new("link_down", Flag),
        Key::new("mtu", Integer(1, 65520)),
        Key::new("queues", Integer(0, 64)),
        Key::new("rate", Number),
        Key::new("tag", Integer(1, 4094)),
        Key::new("trunks", RANGES),
    ],
    one_of: &[],
};
