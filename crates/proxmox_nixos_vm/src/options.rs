//! The options of `proxmox_nixos_vm`. Their doc comments are the module's documentation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use pve_module::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What the VM shall be when the task has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The VM exists as described; its power state stays as it is (a new VM is stopped).
    #[default]
    Present,
    /// The VM exists as described and runs. A missing VM is created only if its hardware is described.
    Started,
    /// The VM, which must exist, is as described and shut down.
    Stopped,
    /// The VM, which must exist, is as described, was shut down and runs again.
    Restarted,
    /// The VM exists as described and is a template: its disks are what clones begin with, and it never runs again.
    Template,
    /// There is no such VM. A template is removed only with O(force), and not while linked clones need its disks.
    Absent,
    /// Nothing is changed: the VM is only looked at.
    Current,
}

/// The family of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AddressFamily {
    /// IPv4, or IPv6 if there is no IPv4 address 10 seconds after the first IPv6 address.
    #[default]
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

impl AddressFamily {
    /// An address of this family, in a sentence.
    pub fn named(self) -> &'static str {
        match self {
            Self::Any => "an address",
            Self::Ipv4 => "an IPv4 address",
            Self::Ipv6 => "an IPv6 address",
        }
    }
}

/// The template that a new VM is a clone of.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
pub struct CloneOf {
    /// The template's name.
    pub name: Option<String>,

    /// The template's VMID.
    pub vmid: Option<u32>,

    /// Copy the disks. Without it they are linked: they hold what is changed, and need the template for the rest.
    #[serde(default)]
    pub full: bool,

    /// The storage for the copies of a full clone, if not the template's own.
    pub storage: Option<String>,

    /// The format of the copies of a full clone, such as V(qcow2), if not the template's own.
    pub format: Option<String>,
}

/// The template that a new VM is a clone of: its name, or more.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Clone {
    /// Its name.
    Name(String),
    /// Which it is, and how it is cloned.
    Of(CloneOf),
}

impl Clone {
    /// The template, and how it is cloned.
    pub fn of(&self) -> CloneOf {
        match self {
            Self::Name(name) => CloneOf {
                name: Some(name.clone()),
                vmid: None,
                full: false,
                storage: None,
                format: None,
            },
            Self::Of(of) => of.clone(),
        }
    }
}

/// What high availability (HA) does with a VM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HaState {
    /// HA keeps it running: it starts the VM, also on another node when its own fails.
    Started,
    /// HA keeps it stopped, and moves it to another node when its own fails.
    Stopped,
    /// HA keeps it stopped, on the node where it is.
    Disabled,
    /// HA has it as a resource and does nothing with it.
    Ignored,
    /// The VM is not an HA resource. PVE removes it from all rules, too.
    Absent,
}

/// Whether the VMs of an HA rule share a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// On one node.
    Positive,
    /// Each on another node.
    Negative,
}

/// High availability: whether and how the cluster's HA manager manages the VM.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Ha {
    /// What HA does with the VM. By default, an existing resource keeps its state, and a new one gets the state in which this task leaves
    /// the VM, V(started) or V(stopped). HA acts some seconds after the task.
    pub state: Option<HaState>,

    /// How often HA tries to start the VM again on its node after a start failed. PVE's default is 1.
    pub max_restart: Option<u32>,

    /// How often HA tries other nodes after that. PVE's default is 1.
    pub max_relocate: Option<u32>,

    /// A comment on the HA resource. An empty text removes it.
    pub comment: Option<String>,

    /// The HA group of the VM, for Proxmox VE 8; Proxmox VE 9 has rules instead. The group must exist. An empty text removes the VM from
    /// its group.
    pub group: Option<String>,

    /// The HA rule of the VM, for Proxmox VE 9. The VM is added to an existing rule. A missing rule is created from C(nodes), or from
    /// C(affinity) and C(resources). Other rules that have the VM are not changed.
    pub rule: Option<String>,

    /// The nodes of a C(node-affinity) rule, each a name or V(NAME:PRIORITY). HA prefers the highest priority.
    pub nodes: Option<Vec<String>>,

    /// Whether the VMs of a C(node-affinity) rule stay off other nodes even if all nodes of the rule have failed.
    pub strict: Option<bool>,

    /// Makes the rule a C(resource-affinity) rule: its VMs run on one node (V(positive)) or on different nodes (V(negative)).
    pub affinity: Option<Affinity>,

    /// The other VMs of a C(resource-affinity) rule, by name or VMID; this task's VM may be listed, too. VMs that are not HA resources yet
    /// are left out with a warning. Their own tasks add them. PVE needs two VMs for such a rule.
    pub resources: Option<Vec<String>>,
}

/// The options of the module.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
pub struct Options {
    /// How to reach the PVE API.
    #[serde(flatten, skip_serializing)]
    pub connection: Connection,

    /// What the VM shall be when the task has ended.
    #[serde(default)]
    pub state: State,

    /// The node the VM is created on. Without it the online node that has the storages and bridges named
    /// and the most free memory is taken: neither in use nor configured for a VM there, running or not
    /// (how much a node has and uses is seen only with the privilege Sys.Audit on it; without it only the
    /// VMs count). VMs that this controller makes at the same moment know of each other. An existing VM is managed on
    /// the node where it is, unless O(migrate) is set.
    pub node: Option<String>,

    /// The nodes that may be chosen for a new VM without O(node). Nodes that are offline are skipped.
    pub nodes: Option<Vec<String>>,

    /// The names of VMs that a new VM without O(node) should not share a node with. The node with the fewest of them is chosen, then the
    /// one with the most free memory. This is a preference: if every node has some of them, the VM is created nevertheless. It does
    /// not apply to later migrations; use O(ha.rule) for these.
    pub apart_from: Option<Vec<String>>,

    /// Migrate an existing VM that is on another node than O(node), which must be given, before anything else is done to it: online if it runs,
    /// with its disks on local storages. A VM that PVE would not migrate is refused: one with devices of its node, with an ISO of a
    /// local storage in a drive, or with a storage or bridge that O(node) lacks.
    #[serde(default)]
    pub migrate: bool,

    /// The VM's name, a DNS name. It identifies the VM unless O(vmid) does; a name that two VMs have is an error.
    pub name: Option<String>,

    /// The VM's ID. Without it the VM is found by its O(name), and a new VM gets the next free ID, also when
    /// many tasks create VMs at the same time.
    pub vmid: Option<u32>,

    /// The VMIDs from which a new VM without O(vmid) gets the first free one, for example V(200-299). Without it PVE's own
    /// range is taken (its datacenter option C(next-id)).
    pub vmid_range: Option<String>,

    /// Begin a VM that does not exist as a clone of this template, on the template's node unless O(node) is another one.
    /// Then it becomes as described: disks that the template has are grown if need be, others are added. NICs get new
    /// MAC addresses. An existing VM is not cloned again. A text is the template's name, for a linked clone.
    #[serde(skip_serializing)]
    pub clone: Option<Clone>,

    /// Memory in MiB.
    pub memory: Option<u64>,

    /// The memory that ballooning leaves the VM, in MiB; V(0) turns ballooning off.
    pub balloon: Option<u64>,

    /// CPU cores per socket.
    pub cores: Option<u32>,

    /// CPU sockets.
    pub sockets: Option<u32>,

    /// The CPU type with its flags, as PVE writes it, for example V(host) or V(x86-64-v2-AES,flags=+aes), or a dict such as
    /// V({cputype: host, flags: [+aes]}). A custom model is V(custom-NAME). A model that the node does not have for the VM's
    /// architecture is refused before anything is changed.
    #[schemars(extend("x-ansible" = {"type": "raw"}))]
    pub cpu: Option<Value>,

    /// Whether NUMA is emulated.
    pub numa: Option<bool>,

    /// The firmware, V(seabios) or V(ovmf). V(ovmf) wants an O(efidisk0).
    pub bios: Option<String>,

    /// The machine type, for example V(q35) or V(pc), or a dict such as V({type: q35, viommu: intel}).
    #[schemars(extend("x-ansible" = {"type": "raw"}))]
    pub machine: Option<Value>,

    /// The guest's architecture, V(x86_64) or V(aarch64). PVE lets only V(root@pam) with a password set it.
    pub arch: Option<String>,

    /// The guest's kind; V(l26) for NixOS.
    pub ostype: Option<String>,

    /// The SCSI controller, for example V(virtio-scsi-single).
    pub scsihw: Option<String>,

    /// Ask the guest agent of a running VM for RV(guest_agent). One that is silent is waited for up to 10 seconds.
    #[serde(default)]
    pub guest_facts: bool,

    /// Wait until the guest agent of a running VM reports an address of O(address_family) on the guest's NIC V(net0), which is
    /// returned in RV(guest_agent.address) with the rest of RV(guest_agent), and fail if it reports none within O(timeout). Addresses
    /// of loopback and link do not count. Not in check mode, unless with O(state=current).
    #[serde(default)]
    pub wait_for_address: bool,

    /// The family of RV(guest_agent.address).
    #[serde(default)]
    pub address_family: AddressFamily,

    /// The guest agent: V(true), V(false), PVE's text such as V(enabled=1,fstrim_cloned_disks=1), or a dict of the same.
    #[schemars(extend("x-ansible" = {"type": "raw"}))]
    pub agent: Option<Value>,

    /// Serial ports, for example V({serial0: socket}).
    pub serial: Option<BTreeMap<String, Value>>,

    /// The display, for example V(std) or V(serial0), or a dict such as V({type: qxl, memory: 32}).
    #[schemars(extend("x-ansible" = {"type": "raw"}))]
    pub vga: Option<Value>,

    /// Whether the VM has a tablet as pointing device.
    pub tablet: Option<bool>,

    /// What is plugged in and out while the VM runs: V(0), V(1), or a list such as V(network,disk,usb).
    pub hotplug: Option<String>,

    /// A source of random numbers for the guest, for example V(source=/dev/urandom), or a dict of the same.
    #[schemars(extend("x-ansible" = {"type": "raw"}))]
    pub rng0: Option<Value>,

    /// Host PCI devices. Each is PVE's text, such as V(mapping=gpu,pcie=1), or a dict such as V({mapping: gpu, pcie: true}).
    /// A mapping (Datacenter, Resource Mappings) needs the privilege Mapping.Use; anything else only V(root@pam) may set.
    pub hostpci: Option<BTreeMap<String, Value>>,

    /// USB devices, as O(hostpci): V(mapping=key), V({mapping: key}), or V(spice).
    pub usb: Option<BTreeMap<String, Value>>,

    /// Whether the VM is started with its node.
    pub onboot: Option<bool>,

    /// The order of starts and shutdowns, for example V(order=1,up=30), or a dict of the same.
    #[schemars(extend("x-ansible" = {"type": "raw"}))]
    pub startup: Option<Value>,

    /// The VM's tags. The list is all tags that the VM shall have; V([]) removes every tag. Each item is one
    /// tag. PVE lower-cases and sorts them.
    pub tags: Option<Vec<String>>,

    /// A tag of the VMs that this task may touch. A VM that is found without it is refused, in every O(state) but
    /// V(current). A VM that is made gets it, and O(tags), when given, always contain it. PVE clones without tags, so a
    /// O(clone) has a line in its notes that says as much until it has been given the tag.
    pub guard_tag: Option<String>,

    /// Tags that the VM must all have, or the task fails with RV(error.kind=guarded) and changes nothing, also when nothing would
    /// have changed. Together with O(tags) it is a compare-and-set: tags are changed by the first write, which PVE
    /// carries out only if the configuration is still the one in which the tags were found. So of several tasks, also of other
    /// controllers, that move a VM from one tag to another just one succeeds. A VM that does not exist is not made.
    #[serde(default)]
    pub only_if_tagged: Vec<String>,

    /// Tags of which the VM must have none, or the task fails, as with O(only_if_tagged). A VM that does not exist is made.
    #[serde(default)]
    pub unless_tagged: Vec<String>,

    /// The VM's description (PVE's notes).
    pub description: Option<String>,

    /// The resource pool the VM is in.
    pub pool: Option<String>,

    /// High availability (HA). What is left out of it stays as it is; without the option HA is not looked at.
    /// Refused for a VM that is being installed, unless HA leaves it alone (V({state: ignored}), V({state: absent})): HA would start it, or
    /// stop it, in the middle. O(state=absent) removes the HA resource with the VM, and the VM from rules: PVE does that itself.
    /// It needs Sys.Audit and Sys.Console on C(/), more than a VM does; see docs/privileges.md.
    #[serde(skip_serializing)]
    pub ha: Option<Ha>,

    /// Whether PVE refuses to destroy the VM and its disks. A protected VM is not removed by O(state=absent).
    pub protection: Option<bool>,

    /// SCSI drives, V(scsi0) to V(scsi30). Each is PVE's text, such as V(local-zfs:32,discard=on,iothread=1) or
    /// V(local:iso/nixos.iso,media=cdrom), or a dict with C(storage) and C(size) (V(32G), V(512M), or a number of GiB)
    /// for a disk, C(iso) for a CD-ROM, C(volume) for an existing volume, and any of PVE's drive options
    /// (C(discard), C(iothread), C(ssd), C(cache), C(backup), C(format), C(import_from), ...).
    /// What an existing disk is described as is what it becomes: a drive option that is not named is PVE's default.
    /// Its C(format) cannot be changed.
    /// An existing disk is grown if need be, and moved with O(move_disks), but never shrunk, replaced or detached.
    pub scsi: Option<BTreeMap<String, Value>>,

    /// VirtIO block drives, V(virtio0) to V(virtio15), as O(scsi).
    pub virtio: Option<BTreeMap<String, Value>>,

    /// SATA drives, V(sata0) to V(sata5), as O(scsi).
    pub sata: Option<BTreeMap<String, Value>>,

    /// IDE drives, V(ide0) to V(ide3), as O(scsi). A V(q35) machine has V(ide0) and V(ide2) only, an V(aarch64) one none.
    pub ide: Option<BTreeMap<String, Value>>,

    /// NICs, V(net0) to V(net31). Each is PVE's text, such as V(virtio,bridge=vmbr0,firewall=1), or a dict
    /// with C(model) (default V(virtio)), C(bridge), C(macaddr), C(tag), C(firewall), C(mtu), C(queues), C(rate),
    /// C(link_down), C(trunks) (a list of VLANs, or V(10;20)). A NIC keeps its MAC address unless another one is given.
    pub net: Option<BTreeMap<String, Value>>,

    /// The EFI variables' disk, as PVE's text or a dict: V({storage: local-zfs, efitype: 4m, pre_enrolled_keys: false}).
    /// An existing one is only compared.
    #[schemars(extend("x-ansible" = {"type": "raw"}))]
    pub efidisk0: Option<Value>,

    /// The TPM's state disk, as PVE's text or a dict: V({storage: local-zfs, version: v2.0}). An existing one is only compared.
    #[schemars(extend("x-ansible" = {"type": "raw"}))]
    pub tpmstate0: Option<Value>,

    /// The boot order, for example V(order=scsi0;ide2), or a list of devices. PVE's legacy form (V(cdn), and the option C(bootdisk)) is refused. Always set after the drives, because PVE edits it with each
    /// CD-ROM that is added. Without it a new VM boots from its first disk, then its first ISO, then its first network
    /// NIC, and an existing VM keeps its order.
    #[schemars(extend("x-ansible" = {"type": "raw"}))]
    pub boot: Option<Value>,

    /// Any other option of PVE's VM configuration, for example V({hookscript: "local:snippets/hook.pl"}).
    /// Null removes the option. Options that PVE does not know are refused. The cloud-init secrets C(cipassword) and C(sshkeys) belong to M(cloudinit_drive).
    pub config: Option<BTreeMap<String, Value>>,

    /// Drives to remove, for example V(ide2). A CD-ROM is detached (on a running VM it is ejected first; the empty
    /// drive goes with the next stop). A disk is detached and kept as an unused volume, unless O(delete_disks) is set.
    #[serde(default)]
    pub remove_disks: Vec<String>,

    /// Move a disk that is on another storage than described, on a running VM too. The copy that is left behind is kept as an
    /// unused volume, unless O(delete_disks) is set. Without it a disk on another storage is an error.
    #[serde(default)]
    pub move_disks: bool,

    /// Delete the volumes of the disks that O(remove_disks) names, and what O(move_disks) leaves behind. This destroys their data. Unused volumes
    /// can be named too (V(unused0)). On a running VM that does not let go of a disk both go with its next stop. Refused for a VM with
    /// snapshots, which may hold the disk.
    #[serde(default)]
    pub delete_disks: bool,

    /// With O(state=stopped) and O(state=restarted): stop the VM hard if it does not shut down in time. With O(state=absent):
    /// stop a running VM hard, then remove it. With O(vmid) and O(name): rename the VM that has this ID. Attach an existing
    /// volume although its name says that it is a disk of another VM.
    #[serde(default)]
    pub force: bool,

    /// Shut the VM down and start it again if PVE holds changes back until then. Without it such changes are
    /// reported in RV(pending) and RV(restart_required).
    #[serde(default)]
    pub restart: bool,

    /// Seconds that the whole task may take.
    #[serde(default = "default_timeout")]
    pub timeout: u64,

    /// A file to which progress is written as JSON lines.
    #[schemars(extend("x-ansible" = {"type": "path"}))]
    pub progress_path: Option<PathBuf>,
}

fn default_timeout() -> u64 {
    300
}
