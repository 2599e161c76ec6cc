//! The module's documentation, besides its options.

use ansible_module::Documentation;

/// It is long because it is one text, in the order in which it is shown.
pub(crate) fn documentation() -> Documentation {
    Documentation {
        short_description: "Create, delete or roll back to a snapshot of a Proxmox VE virtual machine",
        description: &[
            "Makes a snapshot present on a virtual machine or absent from it, or rolls the machine back to it. A second run with \
             V(present) or V(absent) changes nothing.",
            "B(A rollback destroys) what was written to the VM's disks since the snapshot. It restores the VM's options, tags and drives, \
             but not its notes. It stops a running VM. O(state=rolled_back) reports a change in every run.",
            "O(retention) deletes only snapshots whose names begin with O(retention_prefix), and only when a new one was created.",
            "A VM whose installation by the role C(nixos_vm) is not finished is refused (O(allow_during_installation)). The role keeps its \
             record in the VM's notes, so a rollback never brings back an earlier phase of an installation: a finished machine is not \
             installed again, whatever the snapshot has.",
            "The module waits for the VM's lock and for Proxmox VE's tasks, at most O(timeout) seconds. If the answer to a call is lost, the \
             module finds the task of that call in Proxmox VE's task list.",
        ],
        notes: &[
            "Run it on the controller (C(delegate_to: localhost)); it needs nothing there.",
            "Every disk of the VM must be on a storage with snapshots (such as ZFS, LVM-thin or Ceph RBD), or be a qcow2 image on a directory, \
             NFS or CIFS storage. The module checks that before it changes anything.",
            "On ZFS a rollback is possible to the latest snapshot only: Proxmox VE refuses older ones until those made since are deleted.",
            "Proxmox VE's option C(protection) does not cover snapshots: they can be deleted, and a protected VM can be rolled back.",
            "Disks that were added since the snapshot stay as C(unusedN) after a rollback.",
            "Privileges on C(/vms/VMID), or above it: VM.Audit and VM.Snapshot. For O(state=rolled_back) VM.Snapshot.Rollback is enough in \
             place of VM.Snapshot; with O(start) VM.PowerMgmt, too.",
            "Supports check mode and diff mode. The diff of a rollback shows the options that it would restore.",
        ],
        seealso: &["proxmox_nixos_vm"],
        examples: r#"
- name: Take a snapshot before the upgrade
  proxmox_snapshot:
    name: web1
    snapname: before-upgrade
    description: "before NixOS 25.11"
  delegate_to: localhost

- name: Take a daily snapshot and keep the last seven
  proxmox_snapshot:
    name: web1
    snapname: "daily-{{ now().strftime('%Y%m%d') }}"
    retention: 7
    retention_prefix: daily-
  delegate_to: localhost

- name: Roll back and start the VM
  proxmox_snapshot:
    name: web1
    snapname: before-upgrade
    state: rolled_back
    start: true
  delegate_to: localhost

- name: Delete the snapshot of the upgrade
  proxmox_snapshot:
    name: web1
    snapname: before-upgrade
    state: absent
  delegate_to: localhost
"#,
        shared_returns: &[pve_module::MISSING_PRIVILEGE],
        returns: r"
vmid:
  description: The VM's ID.
  returned: when the VM exists
  type: int
  sample: 101
node:
  description: The node it is on.
  returned: when the VM exists
  type: str
  sample: pve1
name:
  description: Its name.
  returned: when the VM exists and has one
  type: str
  sample: web1
status:
  description: V(running) or V(stopped), as it is now; in check mode as it was found.
  returned: when the VM exists
  type: str
  sample: running
snapname:
  description: The snapshot's name.
  returned: success
  type: str
  sample: before-upgrade
snapshot:
  description: The snapshot, as it is now.
  returned: when there is one of this name
  type: dict
  contains:
    name:
      description: Its name.
      returned: always
      type: str
    description:
      description: Its description; empty without one.
      returned: always
      type: str
    snaptime:
      description: When it was made, in seconds since 1970.
      returned: always
      type: int
    vmstate:
      description: Whether it has the memory of a running guest.
      returned: always
      type: bool
    parent:
      description: The snapshot that the VM was at when this one was made.
      returned: when there is one
      type: str
snapshots:
  description: The names of all snapshots of the VM.
  returned: when the VM exists
  type: list
  elements: str
  sample: [daily-20261126, daily-20261127]
done:
  description: The steps that were carried out.
  returned: success, or failure after the first step
  type: list
  elements: str
  sample: [created daily-20261127, deleted daily-20261120]
may_have_happened:
  description: Whether a change may have been made although no answer came.
  returned: when an answer was lost
  type: bool
",
        ..Documentation::default()
    }
}
