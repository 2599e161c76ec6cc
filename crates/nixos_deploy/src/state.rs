//! What the machine runs: its systems, read over a verified connection.

use std::collections::BTreeMap;

use ansible_module::Failure;
use deadline::Deadline;
use guest_ssh::{Connection, Guest, Kind, Target};
use nixos_anywhere_install::{as_root, printable, sizes, ssh_failure, store_path};

use crate::error::Error;
use crate::options::Options;
use crate::packages::Closure;

/// What a system boots with: its kernel, initrd and kernel modules. None for one that it has not.
pub type BootParts = [Option<String>; 3];

/// The names of the links of [`BootParts`] in a system.
pub const BOOT_PARTS: [&str; 3] = ["kernel", "initrd", "kernel-modules"];

/// The machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The store path of the system that runs.
    pub current: String,
    /// The store path of the system that the next boot starts. None if the machine has no profile.
    pub profile: Option<String>,
    /// The number of that generation.
    pub generation: Option<u32>,
    /// The store path of the system that was booted. None if it is not known.
    pub booted: Option<String>,
    /// What that was booted with.
    pub booted_parts: BootParts,
    /// The systems of the profile by their numbers.
    pub generations: BTreeMap<u32, String>,
    /// Its host name.
    pub hostname: String,
    /// Differs after each boot.
    pub boot_id: String,
    /// Whether a deployment is under way.
    pub deploying: bool,
}

/// The most generations that are read. Boot loaders keep fewer.
const MOST_GENERATIONS: usize = 1000;

const QUESTIONS: &str = r#"
link() { printf '%s=%s\n' "$1" "$(readlink -f "$2" 2>/dev/null)"; }
profile=/nix/var/nix/profiles/system
link current /run/current-system
link booted /run/booted-system
# Not while the boot loader may be another system's than the profile.
if [ -e "$profile" ] && [ ! -e /nix/var/nix/nixos-deploy-committing ]; then link profile "$profile"; fi
printf 'generation=%s\n' "$(readlink "$profile" 2>/dev/null)"
for part in kernel initrd kernel-modules; do link "$part" "/run/booted-system/$part"; done
printf 'boot=%s\n' "$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)"
printf 'unit=%s\n' "$(systemctl is-active nixos-deploy.service 2>/dev/null)"
for link in "$profile"-*-link; do
  [ -e "$link" ] && printf 'system=%s %s\n' "${link##*/}" "$(readlink -f "$link")"
done
echo end=
"#;

/// Refuse a machine that does not run an installed NixOS.
///
/// # Errors
/// Kind `refused`.
pub fn require_installed(guest: &Guest, options: &Options) -> Result<(), Error> {
    match guest.kind {
        Kind::Installed => Ok(()),
        kind @ (Kind::Installer | Kind::Other) => Err(Error::NotInstalled {
            host: options.host.clone(),
            kind,
            name: printable(&guest.name),
        }),
    }
}

/// Ask the machine what it runs.
///
/// # Errors
/// Kind `unexpected_answer` if it has no NixOS in the usual places; otherwise those of the connection.
pub async fn read(connection: &Connection, deadline: &Deadline) -> Result<Machine, Failure> {
    let what = "the script that reads its systems";
    let output = as_root(connection, what, QUESTIONS, deadline).await?;
    let text = output.text();
    let machine = Machine::parse(&text).map_err(|problem| Error::UnexpectedAnswer {
        address: connection.address().to_string(),
        problem,
        output: printable(&output.failure()),
    })?;
    Ok(machine)
}

/// The store paths of the running system with their sizes; none if the machine's Nix does not say.
pub async fn closure(
    connection: &Connection,
    system: &str,
    deadline: &Deadline,
) -> Option<Closure> {
    let script = format!(
        "exec nix --extra-experimental-features nix-command path-info --recursive --size '{system}'\n"
    );
    let output = as_root(connection, "nix path-info", &script, deadline).await;
    let output = output.ok()?;
    output.ok().then(|| sizes(&output.text()))
}

/// Log in and read.
///
/// # Errors
/// As [`read`], and kind `refused` for a machine that runs no installed NixOS.
pub async fn look(
    options: &Options,
    target: &Target,
    deadline: &Deadline,
) -> Result<(Connection, Machine), Failure> {
    let connection = Connection::open(target, deadline)
        .await
        .map_err(ssh_failure)?;
    let guest = connection.identify(deadline).await.map_err(ssh_failure)?;
    require_installed(&guest, options)?;
    nixos_anywhere_install::may_be_root(&connection, deadline).await?;
    let mut machine = read(&connection, deadline).await?;
    machine.hostname = printable(&guest.hostname);
    Ok((connection, machine))
}

impl Machine {
    /// Read the answer to [`QUESTIONS`].
    fn parse(text: &str) -> Result<Self, String> {
        let mut machine = Self::default();
        let mut complete = false;
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let path = store_path(value);
            match name {
                "current" => machine.current = path.unwrap_or_default(),
                "profile" => machine.profile = path,
                "booted" => machine.booted = path,
                "generation" => machine.generation = number(value),
                "boot" => machine.boot_id = value.to_owned(),
                "unit" => machine.deploying = runs(value),
                "system" => {
                    if let Some((number, path)) = generation(value)
                        && machine.generations.len() < MOST_GENERATIONS
                    {
                        machine.generations.insert(number, path);
                    }
                }
                "end" => complete = true,
                part => {
                    if let Some(at) = BOOT_PARTS.iter().position(|name| *name == part) {
                        machine.booted_parts[at] = path;
                    }
                }
            }
        }
        match machine.current.as_str() {
            _ if !complete => {
                Err("the output of the script that reads its systems ends too early".into())
            }
            "" => Err("has no /run/current-system".into()),
            _ => Ok(machine),
        }
    }

    /// Its generation of a number, or the newest before the present one for `previous`.
    ///
    /// # Errors
    /// Kinds `invalid_option` and `not_found`, with the numbers that there are.
    pub fn generation_of(&self, wanted: &str) -> Result<(u32, String), Error> {
        let found = if wanted == "previous" {
            let before = self
                .generations
                .iter()
                .filter(|(number, _)| Some(**number) < self.generation);
            before.max_by_key(|(number, _)| **number)
        } else {
            let number: u32 = wanted
                .parse()
                .map_err(|_| Error::InvalidGeneration(wanted.to_owned()))?;
            self.generations.get_key_value(&number)
        };
        match found {
            Some((number, path)) => Ok((*number, path.clone())),
            None => Err(Error::GenerationNotFound {
                wanted: wanted.to_owned(),
                available: self.generations.keys().copied().collect(),
            }),
        }
    }
}

/// `system-42-link /nix/store/...`
fn generation(text: &str) -> Option<(u32, String)> {
    let (link, path) = text.split_once(' ')?;
    Some((number(link)?, store_path(path)?))
}

/// The number of `system-42-link`.
fn number(link: &str) -> Option<u32> {
    let name = link.rsplit('/').next()?;
    name.strip_prefix("system-")?
        .strip_suffix("-link")?
        .parse()
        .ok()
}

/// Whether the unit of this state, as `systemctl is-active` prints it, runs. An empty one is not known: systemd may be starting anew.
pub fn runs(unit: &str) -> bool {
    // "deactivating", too: it still writes.
    !matches!(unit, "inactive" | "failed" | "unknown")
}

#[cfg(test)]
mod tests {
    use ansible_module::FailureKind;

    use super::*;

    const ANSWER: &str = "current=/nix/store/b-system\nbooted=/nix/store/a-system\nprofile=/nix/store/b-system\n\
        generation=system-3-link\nkernel=/nix/store/k-linux/bzImage\ninitrd=\nkernel-modules=/nix/store/k-modules\nboot=1-2\nunit=inactive\n\
        system=system-1-link /nix/store/a-system\nsystem=system-3-link /nix/store/b-system\nsystem=system-x-link /nix/store/c\nend=\n";

    #[test]
    fn an_answer_becomes_a_machine() {
        let machine = Machine::parse(ANSWER).unwrap();
        assert_eq!(machine.current, "/nix/store/b-system");
        assert_eq!(machine.booted.as_deref(), Some("/nix/store/a-system"));
        assert_eq!(machine.generation, Some(3));
        assert_eq!(machine.booted_parts[1], None);
        assert_eq!(
            machine.booted_parts[2].as_deref(),
            Some("/nix/store/k-modules")
        );
        assert_eq!(
            machine.generations.keys().copied().collect::<Vec<_>>(),
            [1, 3]
        );
        assert!(!machine.deploying);
        for (unit, deploying) in [
            ("active", true),
            ("activating", true),
            ("deactivating", true),
            ("failed", false),
            ("", true),
        ] {
            let machine =
                Machine::parse(&ANSWER.replace("unit=inactive", &format!("unit={unit}"))).unwrap();
            assert_eq!(machine.deploying, deploying, "{unit}");
        }
    }

    #[test]
    fn what_is_no_whole_answer_is_refused() {
        for (text, expected) in [
            ("", "ends too early"),
            (ANSWER.strip_suffix("end=\n").unwrap(), "ends too early"),
            ("current=\nend=\n", "no /run/current-system"),
            (
                "current=/nix/store/$(reboot)\nend=\n",
                "no /run/current-system",
            ),
        ] {
            assert!(
                Machine::parse(text).unwrap_err().contains(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn a_generation_is_a_number_or_the_one_before() {
        let machine = Machine::parse(ANSWER).unwrap();
        for (wanted, expected) in [
            ("1", Ok(1)),
            ("3", Ok(3)),
            ("previous", Ok(1)),
            (
                "2",
                Err("2 does not exist on the machine (available: 1, 3)"),
            ),
            ("-1", Err("must be a number or previous (got '-1')")),
        ] {
            let found = machine.generation_of(wanted);
            match expected {
                Ok(number) => assert_eq!(found.unwrap().0, number),
                Err(part) => assert!(Failure::from(found.unwrap_err()).msg.contains(part)),
            }
        }
        let first = Machine {
            generation: Some(1),
            ..machine
        };
        assert_eq!(
            Failure::from(first.generation_of("previous").unwrap_err()).kind,
            FailureKind::NotFound
        );
    }
}
