//! The module's documentation, besides its options.

use ansible_module::Documentation;

pub(crate) fn documentation() -> Documentation {
    Documentation {
        short_description: "Make an ISO image present on a Proxmox VE storage, or absent from it",
        description: &[
            "Uploads a local ISO, passes on one from an address or a GitHub release, or has the node download it; once, however \
             many hosts ask for it.",
            "An ISO of the same name and size counts as the same, unless a recorded checksum says otherwise. Anything else \
             of that name is refused, or replaced with O(force).",
            "An ISO that is being written, by whomever, is waited for. One that a running VM uses is never replaced, one that \
             any VM uses is deleted with O(force) only.",
            "The storage, its content types, the caller's right to it and the free space are checked before anything is sent.",
        ],
        notes: &[
            "Run it on the controller (C(delegate_to: localhost)); it needs nothing there.",
            "After each transfer size, time and checksum are recorded below C(~/.cache/nixos-proxmox/isos), so that another \
             content of the same size is noticed. Deleting the records is harmless.",
            "What a server says about a release is kept below C(~/.cache/nixos-proxmox/answers) for as long as it allows (GitHub: a minute), \
             so that many hosts ask once.",
            "Privileges on C(/storage/STORAGE): Datastore.AllocateTemplate and Datastore.Audit; Datastore.Allocate to delete \
             or to replace by a download of the node. On C(/nodes/NODE): Sys.AccessNetwork for downloads by the node. On C(/vms): \
             VM.Audit, so that VMs that use an ISO are seen.",
            "Memory use does not depend on the size of the ISO. A download by the controller is stored nowhere on the way, unless \
             O(cache_dir) is set; its server must tell the size.",
            "A download by the controller without a checksum is hashed as it passes, and the node is asked to compare that with what \
             arrived; who may not ask for that (Sys.AccessNetwork) is warned that only the size was compared.",
            "Servers of addresses, releases and checksums are verified with the system's certificate authorities; C(SSL_CERT_FILE) names others.",
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

- name: Pass on the newest release of a private repository
  proxmox_iso:
    node: pve1
    storage: local
    github_release:
      repo: owner/installer
      asset: "*-x86_64-linux.iso"
      token: "{{ github_token }}"
    download_by: controller
  delegate_to: localhost

- name: Have the node download an ISO whose checksum is published beside it
  proxmox_iso:
    node: pve1
    storage: local
    url: https://example.org/nixos-minimal-x86_64-linux.iso
    checksum: sha256:https://example.org/SHA256SUMS
  delegate_to: localhost

- name: Remove all installers that no VM uses
  proxmox_iso:
    node: pve1
    storage: local
    name: nixos-installer-*.iso
    state: absent
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
  returned: success, unless O(name) is a pattern
  type: str
  sample: local:iso/nixos-installer.iso
size:
  description: Size in bytes.
  returned: when O(state=present) and it is known
  type: int
  sample: 1284505600
path:
  description: Where the file is on the node.
  returned: when O(state=present), it is there, and Proxmox VE tells
  type: str
  sample: /var/lib/vz/template/iso/nixos-installer.iso
checksum:
  description: SHA-256 of the content.
  returned: when O(state=present) and it is known
  type: str
  sample: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
deleted:
  description: Volumes that were deleted, or would be in check mode.
  returned: when O(state=absent)
  type: list
  elements: str
kept:
  description: Volumes that fit the pattern and were kept because VMs use them.
  returned: when O(state=absent)
  type: list
  elements: str
upid:
  description: The task of the upload or download.
  returned: when one was run
  type: str
  sample: 'UPID:pve1:0000316D:0002463E:6B02F04A:imgcopy::ansible@pve!deploy:'
",
        ..Documentation::default()
    }
}
