//! After the installation: read what was installed, and let go of its disks.

use ansible_module::Failure;
use deadline::Deadline;
use guest_ssh::{Connection, Output};

use crate::state::ssh_failure;

/// Follow the links of the new system's profile as they will lead once it runs: an absolute target
/// counts from the new root, not from the installer's.
const CLOSURE: &str = r#"
path=/nix/var/nix/profiles/system
turns=0
while [ -L "/mnt$path" ] && [ $turns -lt 10 ]; do
  target=$(readlink "/mnt$path") || exit 1
  case $target in
  /*) path=$target ;;
  *) path=${path%/*}/$target ;;
  esac
  turns=$((turns + 1))
done
[ $turns -gt 0 ] || { echo "/mnt$path is not a link" >&2; exit 1; }
printf '%s\n' "$path"
"#;

/// What nixos-anywhere's phase reboot does before it reboots. busybox has no `umount -R`.
const RELEASE: &str = r#"
sync
if ! umount -Rv /mnt 2>/dev/null; then
  mounts=
  while read -r _ point _; do
    case $point in /mnt | /mnt/*) mounts="$point $mounts" ;; esac
  done </proc/mounts
  for point in $mounts; do umount "$point" || failed=1; done
fi
swapoff -a
if command -v zpool >/dev/null 2>&1 && [ "$(zpool list 2>&1)" != 'no pools available' ]; then
  zpool export -a || failed=1
fi
[ -z "$failed" ]
"#;

/// Whether the user is root, or may become root without a password, as nixos-anywhere needs it too.
///
/// # Errors
/// Kind `become` when not.
pub(crate) async fn may_be_root(
    connection: &Connection,
    deadline: &Deadline,
) -> Result<(), Failure> {
    let user = connection.user();
    if user == "root" {
        return Ok(());
    }
    let output = connection
        .exec("the question for sudo", "sudo -n true", b"", deadline)
        .await
        .map_err(ssh_failure)?;
    if output.ok() {
        return Ok(());
    }
    let reason = output.failure();
    Err(Failure::new(
        "become",
        format!(
            "{user} cannot become root on {}: {reason}; nothing was done to it",
            connection.address()
        ),
    )
    .hint("let that user run sudo without a password, or log in as root"))
}

/// The store path of the system that was installed under `/mnt`.
pub(crate) async fn closure(
    connection: &Connection,
    deadline: &Deadline,
) -> Result<String, Failure> {
    let output = as_root(
        connection,
        "the question what was installed",
        CLOSURE,
        deadline,
    )
    .await?;
    let path = output.text().trim().to_owned();
    match output.ok() && path.starts_with('/') {
        true => Ok(path),
        false => Err(Failure::new(
            "not_installed",
            format!(
                "nixos-anywhere reported success, but {} has no installed system under /mnt ({})",
                connection.address(),
                output.failure()
            ),
        )),
    }
}

/// Unmount the new system, so that the machine can be stopped at any moment. Errors are what could
/// not be let go of.
pub(crate) async fn release(connection: &Connection, deadline: &Deadline) -> Result<(), String> {
    let output = as_root(connection, "the release of /mnt", RELEASE, deadline)
        .await
        .map_err(|failure| failure.msg)?;
    match output.ok() {
        true => Ok(()),
        false => Err(output.failure()),
    }
}

async fn as_root(
    connection: &Connection,
    what: &str,
    script: &str,
    deadline: &Deadline,
) -> Result<Output, Failure> {
    let command = match connection.user() {
        "root" => "exec sh",
        _ => "exec sudo -n sh",
    };
    connection
        .exec(what, command, script.as_bytes(), deadline)
        .await
        .map_err(ssh_failure)
}
