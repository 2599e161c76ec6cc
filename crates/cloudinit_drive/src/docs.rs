//! The texts of the documentation beyond the options.

use ansible_module::Documentation;

/// What `ansible-doc cloudinit_drive` shows besides the options.
///
/// It is long because it is one text, in the order in which it is shown.
pub fn documentation() -> Documentation {
    Documentation {
        short_description: "A VM's cloud-init drive on Proxmox VE",
        description: &[
            "Gives a VM a cloud-init drive with this content, or takes it away without leaving a trace.",
            "With O(kind=nocloud) the drive is an ISO made on the controller: full C(user-data), C(meta-data), \
             C(vendor-data) and C(network-config), uploaded and attached through the API alone. Its name and its \
             C(instance-id) come from its content, so the same options change nothing, and cloud-init runs again exactly \
             when something did change. An older seed of the same VM is replaced. With O(layout=configdrive) the same \
             content goes in as an OpenStack config drive.",
            "With O(kind=native) the drive is Proxmox VE's own, made from the VM's C(ci*) options. When a seed takes its place, \
             these options are removed.",
            "Keys and host keys of O(kind=nocloud) go in as C(users) and C(write_files), which cloud-init applies before \
             sshd starts, rather than as C(ssh_authorized_keys) and C(ssh_keys), which it applies beside a running sshd.",
            "The VM's boot order stays as it is.",
        ],
        notes: &[
            "Privileges: VM.Audit, VM.Config.CDROM and VM.Config.Disk on the VM, Datastore.Audit and \
             Datastore.AllocateTemplate on O(storage), and Datastore.Allocate on it to delete an ISO. A native drive needs \
             VM.Config.Cloudinit, VM.Config.Network and Datastore.AllocateSpace instead of those of the ISO. Sys.Audit on the node \
             lets guests with a fixed address have the node's name servers.",
            "Whoever may read the storage's files can read the seed. Remove it with O(state=absent) when the guest no longer \
             needs it.",
            "Options of a native drive that are left out stay as they are, except O(ciupgrade). An empty value removes one.",
            "A native drive does not use O(ciuser), O(cipassword) and O(sshkeys) if the VM's C(cicustom) has C(user=), nor \
             addresses and name servers if it has C(network=): these are refused together.",
            "A clone holds the seed of the VM that it was made from. It is replaced or detached, and its ISO is deleted only when \
             no VM has it in a drive any more.",
            "O(user_data), O(vendor_data) and O(network_config) are checked as cloud-init reads them: YAML 1.1, its modules' types, \
             its network parser. What it would drop or read as something else is refused, in a text by its line.",
            "Supports check mode and diff mode. Diffs show hashes instead of user-data.",
        ],
        requirements: &[],
        seealso: &["proxmox_nixos_vm", "proxmox_iso", "nixos_anywhere_install"],
        examples: r#"
- name: A seed with keys known beforehand
  cloudinit_drive:
    node: pve1
    vmid: 101
    kind: nocloud
    drive: ide0
    storage: local
    hostname: web1
    ssh_authorized_keys:
      - "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    ssh_host_keys:
      ed25519:
        private_file: state/web1/ssh_host_ed25519_key
        public_file: state/web1/ssh_host_ed25519_key.pub
    ipconfig:
      ipconfig0: {ip: 192.0.2.11/24, gw: 192.0.2.1}
    nameservers: [192.0.2.1]

- name: User-data of one's own, merged with the keys
  cloudinit_drive:
    node: pve1
    vmid: 101
    storage: local
    ssh_authorized_keys: "{{ lookup('ansible.builtin.file', '~/.ssh/authorized_keys').splitlines() }}"
    user_data:
      timezone: Europe/Vienna
      write_files:
        - {path: /etc/motd, content: "hello\n"}

- name: Proxmox VE's own drive
  cloudinit_drive:
    node: pve1
    vmid: 102
    kind: native
    drive: ide2
    storage: local-zfs
    ciuser: root
    sshkeys: "{{ lookup('ansible.builtin.file', '~/.ssh/id_ed25519.pub') }}"
    ipconfig:
      ipconfig0: ip=dhcp

- name: No cloud-init drive and no credential left
  cloudinit_drive:
    node: pve1
    vmid: 101
    storage: local
    state: absent
"#,
        shared_returns: &[pve_module::MISSING_PRIVILEGE],
        returns: r#"
vmid:
  description: The VM's ID.
  returned: success
  type: int
  sample: 101
drive:
  description: The drive.
  returned: success
  type: str
  sample: ide0
volid:
  description: The volume in the drive. Not known yet when a check finds that a native drive would be made.
  returned: when there is a drive
  type: str
  sample: local:iso/nixos-proxmox-seed-101-0f3a5c7e9b1d.iso
instance_id:
  description: The instance-id in the meta-data, which changes exactly when the content does.
  returned: with kind=nocloud and state=present
  type: str
  sample: nixos-proxmox-6d4fd4d1c3a94c6fa35ab9d1b0ea3c55
restart_required:
  description: Whether the drive changes once more with the VM's next stop and start, because it runs.
  returned: success
  type: bool
done:
  description: What was done before it failed.
  returned: on failure while changing something
  type: list
  elements: str
"#,
    }
}
