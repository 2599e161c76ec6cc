//! The module's documentation, besides its options.

use ansible_module::Documentation;

/// It is long because it is one text, in the order in which it is shown.
pub(crate) fn documentation() -> Documentation {
    Documentation {
        short_description: "Make an ISO image or a disk image present on a Proxmox VE storage, or absent from it",
        description: &[
            "Uploads a local ISO, passes on one from an address or a GitHub release, or has the node download it; once, however \
             many hosts ask for it.",
            "Images of disks are files of the content type C(import) (O(content=import)), from which M(proxmox_nixos_vm) makes the disks of new \
             VMs. What follows holds for them as for ISOs.",
            "An ISO of that name counts as the same if its checksum is recorded and is the one wanted, or if it came from the same \
             O(url), whose server says the same of it as then. What is not recorded is compared by the node with the checksum, if the caller may \
             ask for it (Sys.AccessNetwork); otherwise the same size is enough, with a warning. Anything else of that name is refused, or \
             replaced with O(force): another size or content, another O(url), one that was written again since, and an O(url) that does not answer.",
            "Without a O(checksum) the server of O(url) is asked in each run. If it does not answer, an ISO that came from there is kept with a warning.",
            "What is not an ISO 9660 or UDF image is refused before anything is written, and what is compressed is unpacked on the way \
             (O(content_check)).",
            "An ISO that is being written, by whomever, is waited for. One that a running VM uses is never replaced, one that \
             any VM uses is deleted with O(force) only.",
            "The storage, its content types, the caller's right to it and the free space are checked before anything is sent.",
        ],
        notes: &[
            "Run it on the controller (C(delegate_to: localhost)); it needs nothing there.",
            "After each transfer size, time, checksums and source (without credentials) are recorded below \
             C(~/.cache/nixos-proxmox/isos), by O(api_host) and O(api_port). Deleting the records costs a comparison by the node.",
            "A O(url) over plain http without a O(checksum), or with one that comes over plain http too, is used with a warning: whoever is on its way \
             can replace the image.",
            "A download by the node writes the address into the node's task log; one that carries credentials is warned of. \
             O(download_by=controller) does not show it to the node.",
            "A compressed image is read twice, as an upload has to say its size beforehand: from the file, from O(cache_dir), or, without that, by \
             downloading it twice. Unpacking takes as much memory as the compressor's window: up to 64 MiB after C(xz -9).",
            "What a server says about a release is kept below C(~/.cache/nixos-proxmox/answers) for as long as it allows (GitHub: a minute), \
             so that many hosts ask once.",
            "Privileges on C(/storage/STORAGE): Datastore.AllocateTemplate and Datastore.Audit; Datastore.Allocate to delete \
             or to replace by a download of the node. On C(/nodes/NODE): Sys.AccessNetwork for downloads by the node. On C(/vms): \
             VM.Audit, so that VMs that use an ISO are seen.",
            "Memory use does not depend on the size of the ISO. A download by the controller is stored nowhere on the way, unless \
             O(cache_dir) is set; its server must tell the size, unless it is compressed.",
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

- name: Upload the image of a disk
  proxmox_iso:
    node: pve1
    storage: local
    content: import
    src: ./nixos.qcow2
  register: image
  delegate_to: localhost

- name: Make a VM of it
  proxmox_nixos_vm:
    name: web1
    scsi: {scsi0: {storage: local-zfs, import_from: "{{ image.volid }}", size: 32G}}
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

- name: Pass on what NixOS publishes under a name that does not change
  proxmox_iso:
    node: pve1
    storage: local
    url: https://channels.nixos.org/nixos-25.11/latest-nixos-minimal-x86_64-linux.iso
    checksum: sha256:https://channels.nixos.org/nixos-25.11/latest-nixos-minimal-x86_64-linux.iso.sha256
    download_by: controller
  delegate_to: localhost

- name: Unpack a compressed image on the way
  proxmox_iso:
    node: pve1
    storage: local
    src: ./nixos-installer.iso.zst
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
        shared_returns: &[pve_module::MISSING_PRIVILEGE],
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
  description: Checksum of the content; SHA-256, unless only another is known. In check mode it may be that of the compressed file.
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
