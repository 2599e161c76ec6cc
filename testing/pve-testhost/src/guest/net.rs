//! The network of a guest: per NIC a QEMU user-mode network of its own, in which the guest has the
//! address that it would have on the real bridge, and forwards from a loopback address of the
//! controller: a guest at 10.77.0.11 is reached at 127.77.0.11, or at its own address where that is
//! one of the controller's.
//!
//! Where this computer, or network namespace, has a bridge of the name that the NIC is to be on, the guest is on that bridge, by a
//! tap as on a real node, and is reached at whatever address it has. That is the way to guests with IPv6, for which QEMU's user-mode
//! network has no forwards.
//!
//! QEMU has to know the guest's address before the guest does. It is looked for, in this order, in
//! `ipconfigN`, in the `network-config` of an attached NoCloud medium, and among the addresses
//! remembered of earlier starts (an installed guest keeps its address when its seed is gone). Else
//! the guest gets a lease, which is remembered too.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::address::{Address, GATEWAY, Wanted};
use super::config::{Config, Properties, indexed};
use super::seed;
use super::{Forward, VmSpec};

/// Last octets of leases.
const LEASES: std::ops::RangeInclusive<u8> = 100..=199;

/// One network card, ready to be put on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nic {
    pub index: u32,
    /// QEMU's device model.
    pub model: String,
    pub mac: String,
    pub link_down: bool,
    pub address: Address,
    /// The tap on a bridge of this computer, with the script that puts it there.
    pub tap: Option<Tap>,
}

/// A tap on a bridge, named as PVE names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tap {
    pub name: String,
    pub bridge: String,
    pub script: PathBuf,
}

impl Tap {
    /// The NIC's tap, if there is such a bridge.
    fn of(vm: &VmSpec, index: u32, nic: &str) -> Result<Option<Self>, String> {
        let properties = Properties::parse(nic);
        let is_name = |name: &&str| name.chars().all(|c| c.is_ascii_alphanumeric());
        let Some(bridge) = properties.get("bridge").filter(is_name) else {
            return Ok(None);
        };
        // Unlike /sys/class/net this is always of our own network namespace.
        let devices = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
        let device = format!("{bridge}:");
        if !devices
            .lines()
            .any(|line| line.trim_start().starts_with(&device))
        {
            return Ok(None);
        }
        let script = vm.run_dir.join(format!("net{index}.up"));
        let failed = |error: std::io::Error| format!("cannot write {}: {error}", script.display());
        fs::create_dir_all(&vm.run_dir).map_err(failed)?;
        // QEMU runs it with the tap's name.
        fs::write(
            &script,
            format!("#!/bin/sh\nexec ip link set \"$1\" master {bridge} up\n"),
        )
        .map_err(failed)?;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        Ok(Some(Self {
            name: format!("tap{}i{index}", vm.vmid),
            bridge: bridge.to_owned(),
            script,
        }))
    }

    fn netdev(&self, id: &str) -> String {
        format!(
            "tap,id={id},ifname={},script={},downscript=no",
            self.name,
            self.script.display()
        )
    }
}

impl Nic {
    /// `-netdev` and `-device` of this card.
    pub(super) fn arguments(
        &self,
        pci: &str,
        bootindex: &str,
        forwards: &[Forward],
    ) -> [String; 4] {
        let id = format!("net{}", self.index);
        [
            "-netdev".into(),
            match &self.tap {
                Some(tap) => tap.netdev(&id),
                None => self.address.netdev(&id, forwards),
            },
            "-device".into(),
            format!(
                "{},netdev={id},id={id},mac={}{pci}{bootindex}",
                self.model, self.mac
            ),
        ]
    }
}

/// Addresses given to guests, kept in a file: VMID, then MAC, so that a VM that was made anew does
/// not inherit.
pub(super) struct Leases {
    file: PathBuf,
    by_vm: BTreeMap<u32, BTreeMap<String, Address>>,
}

impl Leases {
    pub(super) fn load(directory: &Path) -> Result<Self, String> {
        let file = directory.join("leases.json");
        let by_vm = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| format!("{} is damaged: {error}", file.display()))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
            Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
        };
        Ok(Self { file, by_vm })
    }

    fn save(&self) -> Result<(), String> {
        let failed =
            |error: std::io::Error| format!("cannot write {}: {error}", self.file.display());
        let temporary = self.file.with_extension("json.new");
        let text = serde_json::to_vec_pretty(&self.by_vm).map_err(|error| error.to_string())?;
        fs::write(&temporary, text).map_err(failed)?;
        fs::rename(&temporary, &self.file).map_err(failed)
    }

    pub(super) fn forget(&mut self, vmid: u32) -> Result<(), String> {
        match self.by_vm.remove(&vmid) {
            Some(_) => self.save(),
            None => Ok(()),
        }
    }

    /// The address for a NIC, and remember it.
    fn settle(&mut self, vmid: u32, mac: &str, wanted: Option<Wanted>) -> Result<Address, String> {
        let remembered = self.by_vm.get(&vmid).and_then(|vm| vm.get(mac)).copied();
        let lease = |address: &Address| {
            let [a, b, c, d] = address.ip.octets();
            [a, b, c] == GATEWAY.octets()[..3] && LEASES.contains(&d)
        };
        let address = match (wanted, remembered) {
            (Some(Wanted::Static(address)), _) => address,
            (Some(Wanted::Dhcp), Some(address)) if lease(&address) => address,
            (None, Some(address)) => address,
            (Some(Wanted::Dhcp) | None, _) => self.unused()?,
        };
        if remembered != Some(address) {
            let vm = self.by_vm.entry(vmid).or_default();
            vm.insert(mac.to_owned(), address);
            self.save()?;
        }
        Ok(address)
    }

    fn unused(&self) -> Result<Address, String> {
        let taken: Vec<Ipv4Addr> = self
            .by_vm
            .values()
            .flat_map(|vm| vm.values().map(|address| address.ip))
            .collect();
        let [a, b, c, _] = GATEWAY.octets();
        LEASES
            .map(|d| Ipv4Addr::new(a, b, c, d))
            .find(|ip| !taken.contains(ip))
            .map(Address::in_lan)
            .ok_or_else(|| "no free lease: all are taken by other VMs".to_owned())
    }
}

/// A NIC's model and MAC from `virtio=BC:24:11:00:00:01,bridge=vmbr0`.
pub(super) fn card(value: &str) -> Option<(&str, &str)> {
    let properties = Properties::parse(value);
    if let (Some(model), Some(mac)) = (properties.default_key("model"), properties.get("macaddr")) {
        return Some((model, mac));
    }
    properties.iter().find(|(_, value)| {
        value.len() == 17 && value.bytes().filter(|byte| *byte == b':').count() == 5
    })
}

/// The cards of a VM with the addresses that its guest will use.
pub(super) fn cards(vm: &VmSpec, leases: &mut Leases) -> Result<Vec<Nic>, String> {
    let networks = seed::network_configs(&vm.volumes);
    let mut cards = Vec::new();
    for (index, key, value) in indexed(&vm.config, "net") {
        let (model, mac) = card(value).ok_or_else(|| {
            format!("unable to parse {key} '{value}': no model with a MAC address")
        })?;
        let mac = mac.to_uppercase();
        let wanted = from_ipconfig(&vm.config, index).or_else(|| {
            networks
                .iter()
                .find_map(|network| seed::wanted(network, index, &mac))
        });
        let address = leases.settle(vm.vmid, &mac, wanted)?;
        cards.push(Nic {
            index,
            model: match model {
                "virtio" => "virtio-net-pci".into(),
                other => other.into(),
            },
            link_down: Properties::parse(value).on("link_down"),
            mac,
            address,
            tap: Tap::of(vm, index, value)?,
        });
    }
    Ok(cards)
}

fn from_ipconfig(config: &Config, index: u32) -> Option<Wanted> {
    let properties = Properties::parse(config.get(&format!("ipconfig{index}"))?);
    match properties.get("ip")? {
        "dhcp" => Some(Wanted::Dhcp),
        cidr => Address::parse(cidr, properties.get("gw")).map(Wanted::Static),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: &str = "BC:24:11:00:00:0B";
    const SSH: [Forward; 1] = [Forward {
        host_port: 2222,
        guest_port: 22,
    }];

    fn vm(vmid: u32, config: &[(&str, &str)]) -> VmSpec {
        let mut config: Config = config
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        config
            .entry("net0".into())
            .or_insert_with(|| format!("virtio={MAC},bridge=vmbr0"));
        VmSpec {
            vmid,
            name: "web1".into(),
            config,
            volumes: BTreeMap::new(),
            run_dir: "/nonexistent".into(),
        }
    }

    fn seeded(directory: &Path, vmid: u32, network: &str) -> VmSpec {
        let files = BTreeMap::from([
            ("meta-data".to_owned(), b"instance-id: 1\n".to_vec()),
            ("user-data".to_owned(), b"#cloud-config\n".to_vec()),
            ("network-config".to_owned(), network.as_bytes().to_vec()),
        ]);
        let file = directory.join("seed.iso");
        fs::write(&file, nocloud_seed::iso::write("cidata", &files)).unwrap();
        let mut vm = vm(vmid, &[]);
        vm.volumes.insert("ide0".into(), file);
        vm
    }

    fn address(vm: &VmSpec, directory: &Path) -> String {
        let mut leases = Leases::load(directory).unwrap();
        let cards = cards(vm, &mut leases).unwrap();
        assert_eq!(cards[0].mac, MAC);
        assert_eq!(cards[0].model, "virtio-net-pci");
        format!("{}/{}", cards[0].address.ip, cards[0].address.prefix)
    }

    #[test]
    fn an_address_is_taken_from_ipconfig() {
        let directory = tempfile::tempdir().unwrap();
        let vm = vm(101, &[("ipconfig0", "ip=10.77.0.11/24,gw=10.77.0.1")]);
        assert_eq!(address(&vm, directory.path()), "10.77.0.11/24");
    }

    #[test]
    fn an_address_is_taken_from_a_seed_and_remembered_without_it() {
        for network in [
            "version: 2\nethernets:\n  eth0:\n    match: {macaddress: 'bc:24:11:00:00:0b'}\n    addresses: [10.77.0.12/24]\n    routes: [{to: default, via: 10.77.0.1}]\n",
            "network:\n  version: 2\n  ethernets:\n    id0:\n      match: {name: 'e*'}\n      addresses:\n        - fd00::1/64\n        - 10.77.0.12/24\n",
            "version: 1\nconfig:\n- type: physical\n  name: eth0\n  mac_address: 'bc:24:11:00:00:0b'\n  subnets:\n  - type: static\n    address: '10.77.0.12'\n    netmask: '255.255.255.0'\n    gateway: '10.77.0.1'\n",
            "network:\n  version: 1\n  config:\n  - {type: physical, name: eth0, subnets: [{type: static, address: 10.77.0.12/24}]}\n",
        ] {
            let directory = tempfile::tempdir().unwrap();
            let seeded = seeded(directory.path(), 101, network);
            assert_eq!(
                address(&seeded, directory.path()),
                "10.77.0.12/24",
                "{network}"
            );
            assert_eq!(address(&vm(101, &[]), directory.path()), "10.77.0.12/24");
        }
    }

    #[test]
    fn a_lease_is_given_remembered_and_never_given_twice() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(
            address(&vm(101, &[("ipconfig0", "ip=dhcp")]), path),
            "10.77.0.100/24"
        );
        assert_eq!(address(&vm(102, &[]), path), "10.77.0.101/24");
        assert_eq!(
            address(
                &seeded(path, 103, "version: 2\nethernets: {eth0: {dhcp4: true}}"),
                path
            ),
            "10.77.0.102/24"
        );
        assert_eq!(address(&vm(101, &[]), path), "10.77.0.100/24");
        Leases::load(path).unwrap().forget(101).unwrap();
        assert_eq!(address(&vm(104, &[]), path), "10.77.0.100/24");
    }

    #[test]
    fn asking_for_dhcp_ends_a_remembered_static_address() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(
            address(&vm(101, &[("ipconfig0", "ip=10.77.0.11/24")]), path),
            "10.77.0.11/24"
        );
        assert_eq!(
            address(&vm(101, &[("ipconfig0", "ip=dhcp")]), path),
            "10.77.0.100/24"
        );
    }

    #[test]
    fn the_network_of_a_guest() {
        let netdev = |cidr, gateway| Address::parse(cidr, gateway).unwrap().netdev("net0", &SSH);
        assert_eq!(
            netdev("10.77.0.11/24", Some("10.77.0.1")),
            "user,id=net0,restrict=on,ipv6=off,net=10.77.0.0/24,host=10.77.0.1,dns=10.77.0.254,\
             dhcpstart=10.77.0.11,hostfwd=tcp:127.77.0.11:2222-10.77.0.11:22"
        );
        assert_eq!(
            netdev("192.0.2.1/29", None),
            "user,id=net0,restrict=on,ipv6=off,net=192.0.2.0/29,host=192.0.2.2,dns=192.0.2.6,\
             dhcpstart=192.0.2.1,hostfwd=tcp:127.0.2.1:2222-192.0.2.1:22"
        );
        assert!(
            netdev("192.0.2.9/32", Some("198.51.100.1"))
                .contains("net=192.0.2.0/24,host=192.0.2.1,")
        );
        assert!(netdev("10.1.2.3/0", None).contains("net=0.0.0.0/0"));
    }

    #[test]
    fn cards_in_both_spellings() {
        assert_eq!(
            card("virtio=BC:24:11:00:00:0B,bridge=vmbr0"),
            Some(("virtio", MAC))
        );
        assert_eq!(
            card("e1000,macaddr=BC:24:11:00:00:0B"),
            Some(("e1000", MAC))
        );
        assert_eq!(card("virtio,bridge=vmbr0"), None);
    }
}
