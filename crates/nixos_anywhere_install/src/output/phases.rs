//! The phases of an installation, by the names that nixos-anywhere announces them with.

/// No phase of nixos-anywhere's has a longer name, in bytes.
const LONGEST_NAME: usize = 200;

/// nixos-anywhere tries its first login for ever; the machine answered us just before, so that a
/// login which does not work by then never will.
pub(crate) const KEYS: &str = "Uploading install SSH keys";

/// The phase, of this module itself, in which Nix builds on the controller.
pub(crate) const BUILD: &str = "Building the configuration";

/// The phase, of this module itself, in which Nix evaluates on the controller.
pub(crate) const EVALUATE: &str = "Evaluating the configuration";

/// From it on the disks are not what they were.
pub(crate) const FORMAT: &str = "Formatting hard drive with disko";

/// In it the bootloader is installed.
pub(crate) const INSTALL: &str = "Installing NixOS";

/// In it nixos-anywhere also builds, evaluates and copies disko's script, without a phase of its own.
pub(crate) const FACTS: &str = "Gathering machine facts";

/// The phases of nixos-anywhere in their order. Output of the machine may look like one.
pub(crate) const ORDER: [&str; 14] = [
    KEYS,
    FACTS,
    "Switching system into kexec",
    "Generating hardware-configuration.nix using nixos-generate-config",
    "Generating facter.json using nixos-facter",
    "Generating facter.json using nixos-facter from nixpkgs",
    "Building disko script",
    FORMAT,
    "Uploading the system closure",
    "Building the system closure",
    "Copying extra files",
    INSTALL,
    "Rebooting",
    "Waiting for the machine to become unreachable due to reboot",
];

/// Where a key for disk encryption is uploaded: before disko's script is built.
pub(crate) const UPLOAD: usize = 5;

/// Where a kexec is.
pub(crate) const KEXEC: usize = 2;

/// Where the disks are formatted.
pub(crate) const FORMATTING: usize = 7;

/// Where a phase stands in [`ORDER`].
pub(crate) fn position(name: &str) -> Option<usize> {
    let key = name
        .strip_prefix("Uploading ")
        .is_some_and(|rest| rest.contains(" to /"));
    match key {
        true => Some(UPLOAD),
        false => ORDER.iter().position(|phase| *phase == name),
    }
}

/// The phase that a line of nixos-anywhere's standard output announces: `### NAME ###`. The
/// machine's own output comes on the same stream, so the whole line must be that.
pub(crate) fn phase(line: &str) -> Option<&str> {
    let name = line.strip_prefix("### ")?.strip_suffix(" ###")?;
    (!name.is_empty() && name.len() <= LONGEST_NAME).then_some(name)
}
