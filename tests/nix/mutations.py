#!/usr/bin/env python3
"""How many mistakes in the Nix files scripts/check-nix.sh notices: python3 tests/nix/mutations.py

Each mutation is made in a clone of the last commit, and the check run on it. At least 90 % have to be noticed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BAR = 0.9

INSTALLER, EXAMPLE, DISK, VAULT = "nix/installer/", "examples/nixos-config/", "examples/nixos-config/disk.nix", "examples/nixos-config/vault/"
# File, what stands there, what takes its place. The name of a mutation is its number, file and new text.
MUTATIONS = [
    (INSTALLER + "image.nix", "lib.mkForce 2", "2"),
    (INSTALLER + "image.nix", '"zstd"', '"zsdt"'),
    (INSTALLER + "image.nix", "documentation.enable = lib.mkForce false", "documentation.enable = false"),
    (INSTALLER + "image.nix", "documentation.nixos.enable = lib.mkForce false;", ""),
    (INSTALLER + "image.nix", "makeUsbBootable = true", "makeUsbBootable = false"),
    (INSTALLER + "image.nix", "installation-cd-minimal.nix", "installation-cd-minimal-new.nix"),
    (INSTALLER + "image.nix", "channel.enable = false", "channels.enable = false"),
    (INSTALLER + "default.nix", "    ./ssh.nix\n", ""),
    (INSTALLER + "default.nix", "    ./cloud-init.nix\n", ""),
    (INSTALLER + "ssh.nix", "    enable = true", "    enable = false"),
    (INSTALLER + "ssh.nix", "PasswordAuthentication = false", "PasswordAuthentication = true"),
    (INSTALLER + "ssh.nix", '"prohibit-password"', '"no"'),
    (INSTALLER + "ssh.nix", '"prohibit-password"', '"without-pasword"'),
    (INSTALLER + "ssh.nix", '        type = "ed25519";\n', ""),
    (INSTALLER + "ssh.nix", "ssh_host_rsa_key", "ssh_host_rsa"),
    (INSTALLER + "ssh.nix", 'PerSourcePenalties = "no"', "PerSourcePenalties = false"),
    (INSTALLER + "ssh.nix", "wheelNeedsPassword = false", "wheelNeedsPassword = true"),
    (INSTALLER + "cloud-init.nix", "ssh_deletekeys = false", "ssh_deletekeys = true"),
    (INSTALLER + "cloud-init.nix", "network.enable = true", "network.enable = false"),
    (INSTALLER + "cloud-init.nix", '        "NoCloud"\n', ""),
    (INSTALLER + "cloud-init.nix", '[ "networkd" ]', '[ "netplan" ]'),
    (INSTALLER + "cloud-init.nix", "lock_passwd", "lock_password"),
    (INSTALLER + "cloud-init.nix", 'lib.mkDefault ""', '""'),
    (INSTALLER + "network.nix", "matchConfig.Type", "matchConfig.Tpye"),
    (INSTALLER + "network.nix", 'DHCP = "yes"', 'DHCP = "yess"'),
    (INSTALLER + "network.nix", "IPv6AcceptRA", "IPv6AcceptsRA"),
    (INSTALLER + "network.nix", "usePredictableInterfaceNames = false", "usePredictableInterfaceNames = true"),
    (INSTALLER + "network.nix", "networkmanager.enable = lib.mkForce false", "networkmanager.enable = false"),
    (INSTALLER + "network.nix", "timeout = 30", 'timeout = "30"'),
    (INSTALLER + "network.nix", "RouteMetric = 4096", "RouteMetrics = 4096"),
    (INSTALLER + "tools.nix", "    pkgs.cpio\n", ""),
    (INSTALLER + "tools.nix", "pkgs.gnutar", "pkgs.gnu-tar"),
    (INSTALLER + "tools.nix", '    "flakes"\n', ""),
    (INSTALLER + "console.nix", "ttyAMA0", "ttyS0"),
    (INSTALLER + "console.nix", "isAarch64", "isAarch"),
    (INSTALLER + "guest-agents.nix", "qemuGuest.enable = true", "qemuGuest.enable = false"),
    (INSTALLER + "guest-agents.nix", "(onX86 [ pkgs.xen-guest-agent ])", "[ pkgs.xen-guest-agent ]"),
    (INSTALLER + "guest-agents.nix", '"microsoft"', '"hyperv"'),
    (EXAMPLE + "configuration.nix", "efiInstallAsRemovable = true", "efiInstallAsRemovable = false"),
    (EXAMPLE + "configuration.nix", "    efiInstallAsRemovable = true;\n", ""),
    (EXAMPLE + "configuration.nix", 'mkDefault "x86_64-linux"', 'mkDefault "aarch64-linux"'),
    (EXAMPLE + "configuration.nix", '    "virtio_scsi"\n', ""),
    (EXAMPLE + "configuration.nix", "qemuGuest.enable = true", "qemuGuest.enable = false"),
    (EXAMPLE + "configuration.nix", "settings.PasswordAuthentication = false", "settings.PasswordAuthentication = true"),
    (EXAMPLE + "network.nix", "gateway = [ gateway ]", "gateway = gateway"),
    (EXAMPLE + "network.nix", "useDHCP = false", "useDHCP = true"),
    (EXAMPLE + "flake.nix", "            ./configuration.nix\n", ""),
    (DISK, '"EF00"', '"ef0"'),
    (DISK, '"ext4"', '"ext44"'),
    (DISK, 'mountpoint = "/";', ""),
    (DISK, 'type = "gpt"', 'type = "msdos"'),
    (VAULT + "disk.nix", 'fileSystems."/persist".neededForBoot = true;', ""),
    (VAULT + "disk.nix", "passwordFile", "keyFile"),
    (VAULT + "disk.nix", "initrd.systemd.enable = true", "initrd.systemd.enable = false"),
    (VAULT + "persistence.nix", "/etc/machine-id", "/etc/machine-ids"),
    ("nix/boot-test.nix", "machine.start()", "machine.start("),
    ("nix/boot-test.nix", "timeout=60", "timeout 60"),
    ("nix/boot-test.nix", "pkgs.openssh", "pkgs.opensshd"),
    ("nix/modules.nix", '"dist"', '"distr"'),
    ("nix/modules.nix", '    "proxmox_iso"\n', ""),
    ("nix/modules.nix", "+crt-static", "+crt-sttaic"),
    ("nix/packages.nix", "pkgsCross.musl64", "pkgsCross.musl46"),
    ("nix/provision.nix", "../ansible.cfg", "../ansible.conf"),
    ("nix/provision.nix", "callback_plugins = ${roles}/", "callback_plugins = roles/"),
    ("nix/provision.nix", "    git\n", ""),
    ("nix/provision.nix", "-e ansible.cfg ]", "-e ansible.cfg"),
    ("nix/ansible-role.nix", "rm -rf nixos_vm/library", "rm -rf nixos_vm/library; fi"),
    ("nix/ansible-role.nix", "../roles/nixos_vm", "../roles/nixos_vms"),
    (EXAMPLE + "flake.nix", '      inputs.home-manager.follows = "";\n', ""),
    (EXAMPLE + "flake.nix", 'inputs.nixpkgs.follows = "nixpkgs"', 'inputs.nixpkgs.follow = "nixpkgs"'),
    (EXAMPLE + "configuration.nix", "security.sudo.wheelNeedsPassword = false", "security.sudo.wheelNeedsPassword = true"),
    ("nix/overlay.nix", "./modules.nix", "./module.nix"),
    ("nix/source.nix", "../Cargo.lock", "../Cargo.locks"),
    ("flake.nix", '"aarch64"', '"arm64"'),
    ("flake.nix", "self.nixosModules.installer-iso", "self.nixosModules.installer"),
    ("flake.nix", "nixpkgs/nixos-26.05", "nixpkgs/nixos-26.50"),
    ("nix/checks.nix", "--deny warnings", "--deny warning"),
    ("nix/boot-test.nix", "test $(hostname) = boot-test", "test $(hostname) = boot"),
]
# What only the network, a build or a boot can show.
NOT_NOTICED = {
    "wheelNeedsPassword = true": "nixpkgs' own CD sets it as well, and wins",
    "--deny warning": "the commands of a build are not run",
    "test $(hostname) = boot": "the boot test is compiled, not run",
}


def noticed(clone, file, old, new):
    path = clone / file
    text = path.read_text()
    if old not in text:
        sys.exit(f"{file} has no {old!r}")
    path.write_text(text.replace(old, new, 1))
    # So that it is not for the blanks left that a mistake is noticed. It leaves alone what it cannot parse.
    subprocess.run([ROOT / ".cache/cargo-tools/bin/nixfmt", path], capture_output=True, check=False)
    try:
        return subprocess.run(["scripts/check-nix.sh"], cwd=clone, capture_output=True, check=False).returncode != 0
    finally:
        path.write_text(text)


def main():
    with tempfile.TemporaryDirectory(prefix="mutations.") as directory:
        clone = Path(directory) / "clone"
        subprocess.run(["git", "clone", "--quiet", "--shared", ROOT, clone], check=True)
        (clone / ".cache").mkdir()
        (clone / ".cache/cargo-tools").symlink_to(ROOT / ".cache/cargo-tools")
        subprocess.run(["scripts/check-nix.sh"], cwd=clone, check=True)
        missed = 0
        for number, (file, old, new) in enumerate(MUTATIONS, 1):
            if not noticed(clone, file, old, new):
                missed += 1
                print(f"{number} {file}: {old!r} -> {new!r} is not noticed: {NOT_NOTICED.get(new.split('/')[-1], 'nobody knows why')}", flush=True)
        share = 1 - missed / len(MUTATIONS)
        print(f"{len(MUTATIONS) - missed} of {len(MUTATIONS)} mistakes are noticed, {share:.0%}")
        if share < BAR:
            sys.exit(f"at least {BAR:.0%} are wanted")


main()
