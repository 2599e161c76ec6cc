//! The module's documentation, besides its options.

use ansible_module::Documentation;

pub(crate) fn documentation() -> Documentation {
    Documentation {
        short_description: "Make an ISO image present on a Proxmox VE storage, or absent from it",
        description: &[
            "Uploads a local ISO, or has the node download one, once however many hosts ask for it.",
            "An ISO of the same name and size counts as the same, unless a recorded checksum says otherwise. Anything else \
             of that name is refused, or replaced with O(force).",
            "The storage, its content types, the caller's right to it and the free space are checked before anything is sent.",
        ],
        notes: &[
            "Run it on the controller (C(delegate_to: localhost)); it needs nothing there.",
            "After each transfer size, time and checksum are recorded below C(~/.cache/nixos-proxmox/isos), so that another \
             content of the same size is noticed. Deleting the records is harmless.",
            "Privileges on C(/storage/STORAGE): Datastore.AllocateTemplate and Datastore.Audit; Datastore.Allocate to delete \
             or to replace by a download.",
            "Supports check mode and diff mode.",
        ],
        seealso: &["proxmox_nixos_vm"],
        examples: r#"
- name: Upload an installer
  proxmox_iso:
    node: pve1
    storage: local
    src: ./nixos-installer.iso
    checksum: "sha256:{{ installer_sha256 }}"
  delegate_to: localhost

- name: Have the node download an installer
  proxmox_iso:
    node: pve1
    storage: local
    url: https://example.org/nixos-minimal-x86_64-linux.iso
    checksum: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  delegate_to: localhost

- name: Remove it
  proxmox_iso:
    node: pve1
    storage: local
    name: nixos-installer.iso
    state: absent
  delegate_to: localhost
"#,
        returns: r"
volid:
  description: The volume identifier, as a VM's drive takes it.
  returned: success
  type: str
  sample: local:iso/nixos-installer.iso
size:
  description: Size in bytes.
  returned: when O(state=present) and it is known
  type: int
  sample: 1284505600
checksum:
  description: SHA-256 of the content.
  returned: when O(state=present) and it is known
  type: str
  sample: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
upid:
  description: The task of the upload or download.
  returned: when one was run
  type: str
  sample: 'UPID:pve1:0000316D:0002463E:6B02F04A:imgcopy::ansible@pve!deploy:'
",
        ..Documentation::default()
    }
}
