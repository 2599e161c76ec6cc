//! The keys of a network configuration, by cloud-init's schemas, and what is written instead of them by mistake.

/// The types of version 1 and what each must have.
pub(super) const TYPES: [(&str, &[&str]); 8] = [
    ("physical", &["name"]),
    ("loopback", &["name"]),
    ("infiniband", &["name"]),
    ("bond", &["name", "bond_interfaces"]),
    ("bridge", &["name", "bridge_interfaces"]),
    ("vlan", &["name", "vlan_id", "vlan_link"]),
    ("nameserver", &["address"]),
    ("route", &["destination"]),
];
pub(super) const SUBNETS: [&str; 10] = [
    "dhcp",
    "dhcp4",
    "dhcp6",
    "static",
    "static6",
    "manual",
    "ipv6_slaac",
    "ipv6_dhcpv6-stateful",
    "ipv6_dhcpv6-stateless",
    "none",
];
/// The longest name of a device in Linux.
pub(super) const LONGEST_NAME: usize = 15;
/// The highest number of a VLAN.
pub(super) const LAST_VLAN: u64 = 4094;

/// The keys of an entry of version 1, of whatever type.
pub(super) const ENTRY: [&str; 20] = [
    "type",
    "name",
    "mac_address",
    "mtu",
    "subnets",
    "accept-ra",
    "keep_configuration",
    "params",
    "bond_interfaces",
    "bridge_interfaces",
    "vlan_link",
    "vlan_id",
    "address",
    "search",
    "interface",
    "network",
    "destination",
    "netmask",
    "gateway",
    "metric",
];
pub(super) const SUBNET: [&str; 14] = [
    "type",
    "control",
    "address",
    "netmask",
    "prefix",
    "broadcast",
    "gateway",
    "dns_nameservers",
    "dns_search",
    "routes",
    "ipv4",
    "ipv6",
    "metric",
    "mtu",
];
/// The keys of a device of version 2, Netplan's included where they may be meant.
pub(super) const DEVICE: [&str; 33] = [
    "match",
    "set-name",
    "wakeonlan",
    "dhcp4",
    "dhcp6",
    "dhcp4-overrides",
    "dhcp6-overrides",
    "dhcp-identifier",
    "accept-ra",
    "addresses",
    "ipv6-address-generation",
    "ipv6-address-token",
    "ipv6-mtu",
    "ipv6-privacy",
    "gateway4",
    "gateway6",
    "nameservers",
    "macaddress",
    "mtu",
    "link-local",
    "ignore-carrier",
    "critical",
    "optional",
    "optional-addresses",
    "activation-mode",
    "routes",
    "routing-policy",
    "renderer",
    "auth",
    "interfaces",
    "parameters",
    "id",
    "link",
];
pub(super) const OVERRIDES: [&str; 9] = [
    "hostname",
    "route-metric",
    "send-hostname",
    "use-dns",
    "use-domains",
    "use-hostname",
    "use-mtu",
    "use-ntp",
    "use-routes",
];
/// What bonds and bridges take as parameters; for any other cloud-init refuses the whole (`NET_CONFIG_TO_V2`).
pub(super) const BOND: [&str; 21] = [
    "ad-select",
    "all-slaves-active",
    "arp-all-targets",
    "arp-interval",
    "arp-ip-target",
    "arp-ip-targets",
    "arp-validate",
    "down-delay",
    "fail-over-mac-policy",
    "gratuitious-arp",
    "gratuitous-arp",
    "lacp-rate",
    "learn-packet-interval",
    "mii-monitor-interval",
    "min-links",
    "mode",
    "packets-per-slave",
    "primary",
    "primary-reselect-policy",
    "transmit-hash-policy",
    "up-delay",
];
pub(super) const BRIDGE: [&str; 8] = [
    "ageing-time",
    "forward-delay",
    "hello-time",
    "max-age",
    "path-cost",
    "port-priority",
    "priority",
    "stp",
];
pub(super) const BOND_MODES: [&str; 7] = [
    "802.3ad",
    "active-backup",
    "balance-alb",
    "balance-rr",
    "balance-tlb",
    "balance-xor",
    "broadcast",
];
/// Keys of other programs, and of the other version, and what they are called here.
pub(super) const ENTRY_INSTEAD: [(&str, &str); 4] = [
    ("mac", "mac_address"),
    ("hwaddr", "mac_address"),
    ("id", "vlan_id"),
    ("addresses", "subnets"),
];
pub(super) const SUBNET_INSTEAD: [(&str, &str); 6] = [
    ("addresses", "address"),
    ("ip", "address"),
    ("gateway4", "gateway"),
    ("gateway6", "gateway"),
    ("nameservers", "dns_nameservers"),
    ("dns", "dns_nameservers"),
];
pub(super) const DEVICE_INSTEAD: [(&str, &str); 14] = [
    ("address", "addresses"),
    ("ip", "addresses"),
    ("ip4", "addresses"),
    ("ip6", "addresses"),
    ("subnets", "addresses"),
    ("dhcp", "dhcp4"),
    ("gateway", "gateway4 or gateway6"),
    ("gw", "gateway4 or gateway6"),
    ("dns", "nameservers"),
    ("dns_nameservers", "nameservers"),
    ("mac", "macaddress, or match with macaddress"),
    ("hwaddr", "macaddress, or match with macaddress"),
    ("mode", "parameters with mode"),
    ("name", "set-name"),
];
pub(super) const MATCH_INSTEAD: [(&str, &str); 2] =
    [("mac", "macaddress"), ("hwaddr", "macaddress")];
