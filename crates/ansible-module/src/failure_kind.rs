//! Why a task failed, as a word for programs.

use std::fmt;

use schemars::JsonSchema;
use serde::Serialize;

/// The kinds of failures of all modules: `error.kind` in a result. Each variant's comment is its row in
/// `docs/reference/errors.md`, so it is written for users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    // Options and the controller.
    /// An option is missing, misspelt, or has a value that cannot be used.
    InvalidOption,
    /// The role found mistakes before it changed anything. `mistakes` lists them.
    Preflight,
    /// The module was not called as Ansible calls modules.
    Invocation,
    /// A file or directory of the controller cannot be read or written.
    File,
    /// An SSH key of the options or of the controller cannot be used.
    PrivateKey,
    /// A program that the controller needs is missing, too old, or cannot be started.
    ToolMissing,
    /// A program on the controller failed.
    ToolFailed,
    /// The task was ended by a signal. It may have changed something, whatever `changed` says (`may_have_happened`).
    Interrupted,
    /// The time limit ended before the work did.
    Timeout,
    /// A defect of the module. Please report it.
    #[default]
    Internal,

    // Connections and answers.
    /// Nothing answers at the address, or the node behind it is down.
    Unreachable,
    /// The connection ended in the middle of the work.
    ConnectionLost,
    /// The server's TLS certificate is neither pinned nor signed by a known authority.
    UntrustedCertificate,
    /// The SSH host key is not the known one, or none is known.
    HostKey,
    /// The other side does not accept the user, token, password or key.
    Authentication,
    /// The API user lacks a privilege, the SSH user cannot become root, or a jump host does not connect to the machine.
    PermissionDenied,
    /// The option is reserved for `root@pam`, whatever the privileges.
    RootOnly,
    /// Proxmox VE refused a parameter of a call.
    InvalidParameter,
    /// Proxmox VE answered with an error.
    ApiError,
    /// A task of Proxmox VE failed. `error.detail` is its log.
    TaskFailed,
    /// Another task holds the lock of the VM or storage.
    Locked,
    /// An answer did not have the form that its server documents.
    UnexpectedAnswer,

    // What the cluster has.
    /// The VM, file or release does not exist, or may not be seen.
    NotFound,
    /// The node is down.
    NodeOffline,
    /// The node does not exist, or no online node has what the VM needs.
    NoNode,
    /// No VMID is free in the range.
    NoVmid,
    /// The storage does not exist on the node.
    NoStorage,
    /// The storage is disabled, not active, or does not allow this content.
    StorageUnusable,
    /// There is not enough room for the file.
    NoSpace,
    /// The bridge or VNet does not exist on the node.
    NoBridge,
    /// The ISO of a drive does not exist.
    NoIso,
    /// The source of a clone does not exist, or is not a template.
    NoTemplate,
    /// The VM is a template.
    Template,
    /// Several VMs or files fit the description.
    Ambiguous,
    /// The VM with this VMID has another name.
    NameDiffers,
    /// Another VM has the name.
    NameTaken,
    /// What is to be made exists already, and differs.
    Exists,
    /// Somebody else changes the VM at the same time.
    Conflict,
    /// The creation of the VM, or the work on its snapshot, was interrupted, and it is incomplete.
    CutOff,
    /// The file or drive is in use.
    InUse,
    /// The VM's protection is on.
    Protected,
    /// The VM runs, and has to be stopped first.
    Running,
    /// The VM cannot be moved to the node.
    CannotMigrate,
    /// The VM has a disk or a device that does not allow it.
    Unsupported,
    /// The guest agent reports no address that fits.
    NoAddress,

    // Whose machine it is.
    /// What was asked for would do harm, or cannot work with what was found.
    Refused,
    /// The VM is not the one that the task expects: its tags, record, phase or SMBIOS UUID differ, or changed during the task.
    Guarded,
    /// The VM is not a machine of this inventory host.
    NotOurs,
    /// The machine is not in the state in which its installation left it.
    NotAsLeft,
    /// Another run has taken the machine over.
    TakenOver,
    /// Another run works on the machine.
    Busy,
    /// An installation of the machine is under way.
    Installing,
    /// Two hosts of the play claim the same name, VMID or address.
    Claimed,
    /// The machine exists, and the API user may not see it.
    Hidden,
    /// The confirmation does not name the host.
    Unconfirmed,
    /// A step was asked for whose predecessors have not been done.
    OutOfTurn,
    /// Another machine answers at the address.
    Occupied,

    // Images.
    /// The image cannot be downloaded.
    Download,
    /// The checksum file cannot be used: it has no checksum for the image.
    NoChecksum,
    /// The content does not have the expected checksum.
    ChecksumMismatch,
    /// The file is not an ISO image, or is damaged.
    NotAnImage,
    /// After the transfer the storage does not have the file as it was sent.
    Transfer,

    // The installation.
    /// Nix could not evaluate the flake.
    Evaluation,
    /// Nix could not build the system or the installer.
    Build,
    /// The installation went on without progress, and was ended.
    Endless,
    /// The boot loader could not be installed.
    Bootloader,
    /// After the installation no system was found on the disks.
    NotInstalled,
    /// Another system than the one that was built was installed.
    WrongSystem,
    /// The machine was started and will not answer: its kernel panicked, or the VM was stopped or paused by QEMU.
    BootFailed,
    /// Units of the installed system failed.
    FailedUnits,
    /// The activation of a system could not be started or undone, or the boot loader could not be written.
    Activation,
    /// The new system was undone, by the machine itself or by a rollback of the VM. The old one runs.
    RolledBack,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_written_as_in_results() {
        assert_eq!(FailureKind::NotAnImage.to_string(), "not_an_image");
    }
}
