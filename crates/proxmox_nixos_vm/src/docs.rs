//! The module's documentation beyond its options.

use ansible_module::Documentation;

/// What the options do not say.
pub fn documentation() -> Documentation {
    Documentation {
        short_description: "Create, change, start, stop or remove a Proxmox VE virtual machine",
        description: &[
            "Makes a virtual machine exist as described, and run or not. What is not described is not touched.",
            "An existing VM is compared with the description by meaning: spelling, order, defaults, generated MAC addresses \
             and sizes rounded by a storage make no difference. Only what differs is sent, guarded against changes that \
             others make at the same time.",
            "Disks of an existing VM are grown if need be, and moved with O(move_disks), but never shrunk, replaced, or removed \
             unless O(remove_disks) names them.",
            "A new VM gets the next free VMID if none is given; any number of tasks may do so at once.",
        ],
        notes: &[
            "Check mode and diff mode are supported: check mode reads everything and reports the same plan.",
            "A new VM gets a random UUID in C(smbios1), as PVE itself would give it. The module recognises by it a VM whose \
             creation was not answered.",
            "The drive and the credentials of cloud-init belong to M(cloudinit_drive).",
            "Some changes of a running VM wait for its next stop and start. They are in RV(pending), and are brought into \
             effect at once with O(restart=true).",
            "PVE lets only C(root@pam) with its password set C(affinity), C(amd-sev), C(arch), C(args), C(hookscript), C(hugepages), \
             C(intel-tdx), C(ivshmem), C(keephugepages), C(spice_enhancements), C(vmgenid), devices of the node that are given without a \
             mapping, and paths of the node. For anybody else the module says so before it changes anything.",
            "Privileges: VM.Audit to look; VM.Allocate, VM.Config.*, Datastore.AllocateSpace and SDN.Use to create and \
             change; VM.PowerMgmt to start and stop; VM.GuestAgent.Audit for RV(guest_agent); VM.Clone on the template for O(clone); VM.Migrate for O(migrate); Pool.Allocate for O(pool); \
             Sys.Audit and Sys.Console on C(/) for O(ha).",
        ],
        requirements: &["Proxmox VE 8 or newer"],
        seealso: &["proxmox_iso", "cloudinit_drive", "nixos_anywhere_install"],
        examples: EXAMPLES,
        shared_returns: &[pve_module::MISSING_PRIVILEGE],
        returns: RETURNS,
    }
}

const EXAMPLES: &str = "\
- name: A VM with an empty disk, to be booted from an installer ISO
  proxmox_nixos_vm:
    api_host: pve1.example.org
    api_token_id: ansible@pve!deploy
    api_token_secret: '{{ vault_token_secret }}'
    node: pve1
    name: web1
    memory: 2048
    cores: 2
    ostype: l26
    scsihw: virtio-scsi-single
    scsi:
      scsi0: {storage: local-zfs, size: 32G, discard: true, iothread: true}
    ide:
      ide2: {iso: 'local:iso/nixos-installer.iso'}
    net:
      net0: {bridge: vmbr0, firewall: true}
    serial: {serial0: socket}
    agent: true
    boot: order=scsi0;ide2
    tags: [nixos]
  register: vm

- name: Start it
  proxmox_nixos_vm:
    vmid: '{{ vm.vmid }}'
    state: started

- name: The same description in PVE's own words
  proxmox_nixos_vm:
    node: pve1
    name: web1
    scsi: {scsi0: 'local-zfs:32,discard=on,iothread=1'}
    ide: {ide2: 'local:iso/nixos-installer.iso,media=cdrom'}
    net: {net0: 'virtio,bridge=vmbr0,firewall=1'}
    config: {hookscript: 'local:snippets/hook.pl'}

- name: Shut down, take the installer out, and start from the disk
  block:
    - proxmox_nixos_vm: {name: web1, state: stopped}
    - proxmox_nixos_vm: {name: web1, remove_disks: [ide2], boot: order=scsi0, state: started}

- name: More memory, now
  proxmox_nixos_vm:
    name: web1
    memory: 4096
    restart: true

- name: Claim a machine for an installation; of several controllers that try just one succeeds
  proxmox_nixos_vm:
    name: web1
    only_if_tagged: [waiting]
    tags: [installing]

- name: A template, and a machine that begins as a linked clone of it
  block:
    - proxmox_nixos_vm:
        node: pve1
        name: golden
        state: template
        scsi: {scsi0: {storage: local-zfs, import_from: 'local:import/nixos.qcow2'}}
    - proxmox_nixos_vm:
        name: web2
        clone: {name: golden}
        memory: 2048
        scsi: {scsi0: {storage: local-zfs, size: 32G}}
        state: started

- name: Move a VM to another node, while it runs
  proxmox_nixos_vm:
    name: web1
    node: pve2
    migrate: true

- name: Highly available, with Proxmox VE 9; its rule keeps it apart from the other web servers
  proxmox_nixos_vm:
    name: web1
    state: started
    ha:
      state: started
      max_restart: 2
      rule: web-apart
      affinity: negative
      resources: '{{ groups.web }}'

- name: The same on some nodes only; with Proxmox VE 8 a group says which
  proxmox_nixos_vm:
    name: db1
    ha: {rule: db-nodes, nodes: ['pve1:2', pve2], strict: true}

- name: Look at a VM without changing anything
  proxmox_nixos_vm:
    name: web1
    state: current
  register: vm

- name: Remove a VM and its disks, even if it runs
  proxmox_nixos_vm:
    name: web1
    state: absent
    force: true
";

const RETURNS: &str = "\
exists:
  description: Whether there is such a VM after the task.
  returned: success
  type: bool
  sample: true
vmid:
  description: The VM's ID.
  returned: when the VM exists, or its ID was given
  type: int
  sample: 101
node:
  description: The node the VM is on, or would be created on in check mode.
  returned: when the VM exists or would
  type: str
  sample: pve1
name:
  description: The VM's name.
  returned: when the VM exists, or its name was given
  type: str
  sample: web1
status:
  description: C(running), C(stopped), or C(absent) when there is no VM.
  returned: success
  type: str
  sample: running
tags:
  description: The VM's tags, sorted.
  returned: success
  type: list
  elements: str
  sample: [nixos]
config:
  description: >-
    The VM's configuration in PVE's texts, with pending changes as if they were made. Credentials are masked.
    In check mode as it is now.
  returned: success
  type: dict
  sample: {boot: order=scsi0, memory: '2048', net0: 'virtio=BC:24:11:00:00:01,bridge=vmbr0'}
pending:
  description: Changes that wait for the VM's next stop and start.
  returned: success
  type: list
  elements: dict
  contains:
    key: {description: The option., type: str}
    value: {description: Its value now., type: str}
    pending: {description: Its value after the next start., type: str}
    delete: {description: Whether it will be removed., type: bool}
  sample: [{key: memory, value: '2048', pending: '4096', delete: false}]
template:
  description: Whether the VM is a template.
  returned: when the VM exists
  type: bool
  sample: false
unused_disks:
  description: The VM's volumes that no drive uses, which O(remove_disks) can delete.
  returned: when the VM exists
  type: dict
  sample: {unused0: 'local:101/vm-101-disk-1.raw'}
guest_agent:
  description: What the guest says about itself.
  returned: with O(guest_facts), when the VM was running before and its guest agent answers; with O(wait_for_address)
  type: dict
  contains:
    hostname: {description: Its hostname., type: str}
    os: {description: 'What its os-release and kernel say, such as C(id), C(version_id), C(kernel_release).', type: dict}
    address: {description: 'The first address of its NIC V(net0) that is of O(address_family); null while there is none.', type: str}
    address_ipv4: {description: 'The first IPv4 address of V(net0), or null.', type: str}
    address_ipv6: {description: 'The first IPv6 address of V(net0), or null. Addresses of the internet come before those of C(fc00::/7), and those that are known to last (from a DHCPv6 server, or made from the MAC address) before others.', type: str}
    addresses: {description: 'Its addresses beyond loopback and link: those of V(net0) first, IPv4 before IPv6.', type: list, elements: str}
    interfaces: {description: 'Its NICs, each with C(name), C(mac) and C(addresses).', type: list, elements: dict}
  sample: {hostname: web1, os: {id: nixos}, address: 192.0.2.11, address_ipv4: 192.0.2.11, address_ipv6: '2001:db8::11', addresses: [192.0.2.11, '2001:db8::11'], interfaces: [{name: ens18, mac: 'bc:24:11:00:00:01', addresses: [192.0.2.11/24, '2001:db8::11/64']}]}
restart_required:
  description: Whether changes are pending.
  returned: success
  type: bool
  sample: false
actions:
  description: What was done, or in check mode would be, in order.
  returned: success
  type: list
  elements: str
  sample: ['create', 'start']
";
