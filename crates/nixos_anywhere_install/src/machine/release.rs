//! What is asked of the installer: before the installation whether it is ready, after it what was
//! installed, and to let go of the disks.

use std::collections::BTreeSet;
use std::time::Duration;

use ansible_module::{Failure, Progress};
use deadline::Deadline;
use guest_ssh::{Connection, Output};
use serde_json::json;
use tokio::time::sleep;

use crate::error::{Error, ssh_failure};
use crate::machine::room::{self, Room};
use crate::options::{Options, Phase};
use crate::output::text::printable;

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

/// Whether something is mounted at /mnt.
const MOUNTED: &str = r#"
if command -v mountpoint >/dev/null 2>&1; then
  mountpoint -q /mnt
  exit
fi
while read -r _ point _; do
  [ "$point" != /mnt ] || exit 0
done </proc/mounts
exit 1
"#;

/// Processes of an installation: nixos-install, or a script of disko, as a command or run by a shell.
const INSTALLING: &str = r#"
command -v pgrep >/dev/null 2>&1 || exit 1
found=1
for pid in $(pgrep -f '^(([^ ]*/)?(ba)?sh( -[a-z]+)* )?([^ ]*/)?(nixos-install|[a-z0-9]{32}-disko(-[a-z]+)*)( |$)'); do
  # One that has ended and was not waited for has no command line any more.
  if [ -n "$(tr -d '\000' <"/proc/$pid/cmdline" 2>/dev/null)" ]; then
    echo "$pid"
    found=0
  fi
done
exit $found
"#;

/// How long an installation that still runs on the machine is waited for.
const RUNNING_LIMIT: Duration = Duration::from_secs(900);

/// How often that is looked at.
const RUNNING_PAUSE: Duration = Duration::from_secs(3);

/// What would stop the installation late, found on the installer before anything is done to it.
///
/// # Errors
/// Nothing is mounted for an installation without the phase disko, or the installer does not know
/// the owner of a file.
pub(crate) async fn ready(
    connection: &Connection,
    options: &Options,
    deadline: &Deadline,
) -> Result<(), Failure> {
    let has = |phase| options.phases.contains(&phase);
    if has(Phase::Install) && !has(Phase::Disko) {
        let output = as_root(
            connection,
            "the question what is mounted",
            MOUNTED,
            deadline,
        )
        .await?;
        if !output.ok() {
            let nothing_mounted = Error::NothingMounted {
                address: connection.address().to_owned(),
                host: options.host().to_owned(),
            };
            return Err(nothing_mounted.into());
        }
    }
    if has(Phase::Install) {
        owners(connection, options, deadline).await?;
    }
    Ok(())
}

/// What room the machine has.
pub(crate) async fn room(connection: &Connection, deadline: &Deadline) -> Result<Room, Failure> {
    let what = "the question for its memory and disks";
    let output = connection
        .exec(what, "exec sh", room::ASK.as_bytes(), deadline)
        .await
        .map_err(ssh_failure)?;
    Ok(Room::parse(&output.text()))
}

/// Whether the installer knows the owners of the extra files, which its `chown` sets.
async fn owners(
    connection: &Connection,
    options: &Options,
    deadline: &Deadline,
) -> Result<(), Failure> {
    let name = |name: &&str| !name.is_empty() && !name.bytes().all(|byte| byte.is_ascii_digit());
    let mut script = String::new();
    let owners: BTreeSet<&str> = options
        .extra_files
        .iter()
        .filter_map(|file| file.owner.as_deref())
        .collect();
    for owner in owners {
        let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
        for (what, database, name) in [("user", "passwd", user), ("group", "group", group)]
            .into_iter()
            .filter(|(_, _, found)| name(found))
        {
            // Names are of letters, digits and ._-$ only.
            script += &format!(
                "getent {database} '{name}' >/dev/null 2>&1 || grep -q '^{name}:' /etc/{database} || \
                 echo '{what} {name}'\n"
            );
        }
    }
    if script.is_empty() {
        return Ok(());
    }
    let output = as_root(connection, "the question for owners", &script, deadline).await?;
    let text = output.text();
    let missing: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let unknown = Error::UnknownOwners {
        address: connection.address().to_owned(),
        owners: printable(&missing.join(", ")),
    };
    Err(unknown.into())
}

/// Wait until no installation runs on the machine any more: nixos-install goes on when the controller
/// that started it was killed, and disko beside it would format what it writes to.
///
/// # Errors
/// Kind `busy` when it does not end.
pub(crate) async fn await_other_installation(
    connection: &Connection,
    progress: &Progress,
    host: &str,
    deadline: &Deadline,
) -> Result<(), Failure> {
    let limit = deadline.shorter(RUNNING_LIMIT);
    let what = "the question for another installation";
    let runs = |pids: &str| Error::InstallationRuns {
        address: connection.address().to_owned(),
        host: host.to_owned(),
        pids: printable(pids),
    };
    let mut found: Option<String> = None;
    loop {
        let output = match (
            as_root(connection, what, INSTALLING, deadline).await,
            &found,
        ) {
            // The machine is too slow to answer in what is left of the time.
            (Err(_), Some(pids)) if limit.expired() => return Err(runs(pids).into()),
            (answer, _) => answer?,
        };
        // The exit status alone could be that of a shell that did not run the question.
        let text = output.text();
        if !output.ok() || text.trim().is_empty() {
            return Ok(());
        }
        let pids = text.split_whitespace().collect::<Vec<_>>().join(", ");
        if limit.remaining() <= RUNNING_PAUSE {
            return Err(runs(&pids).into());
        }
        found = Some(pids);
        let reason = "another installation still runs on it";
        progress.emit(&json!({"event": "waiting", "host": host, "reason": reason}));
        sleep(RUNNING_PAUSE).await;
    }
}

/// Whether the user is root, or may become root without a password, as nixos-anywhere needs it too.
///
/// # Errors
/// Kind `permission_denied` when not.
pub async fn may_be_root(connection: &Connection, deadline: &Deadline) -> Result<(), Failure> {
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
    let refused = Error::CannotBecomeRoot {
        user: user.to_owned(),
        address: connection.address().to_owned(),
        reason: printable(&output.failure()),
    };
    Err(refused.into())
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
        false => {
            let not_installed = Error::NotInstalled {
                address: connection.address().to_owned(),
                reason: printable(&output.failure()),
            };
            Err(not_installed.into())
        }
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
        false => Err(printable(&output.failure())),
    }
}

/// Run a script as root, by `sudo` unless the user is root.
///
/// # Errors
/// Those of the connection. The caller judges the exit status.
pub async fn as_root(
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
