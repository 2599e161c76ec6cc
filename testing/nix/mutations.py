#!/usr/bin/env python3
"""How many mistakes in the Nix files scripts/check-nix.sh notices: python3 testing/nix/mutations.py

Each mutation is made in a clone of the last commit, and the check run on it. At least 90 % have to be noticed.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BAR = 0.9

GUEST, WRAPPER = "nix/guest/", "crates/nixos_vm_lifecycle/src/system_facts/flake.nix"
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
    (EXAMPLE + "configuration.nix", 'mkDefault "x86_64-linux"', 'mkDefault "aarch64-linux"'),
    (EXAMPLE + "configuration.nix", "PasswordAuthentication = false", "PasswordAuthentication = true"),
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
    ("nix/provision.nix", "inventory_plugins = ${roles}/", "inventory_plugins = roles/"),
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
    ("nix/checks.nix", "self.nixosModules.guest", "self.nixosModules.guests"),
    ("nix/checks.nix", '"192.0.2.11"', '"192.0.2.11/24"'),
    ("nix/checks.nix", "--deny warnings", "--deny warning"),
    ("nix/boot-test.nix", "test $(hostname) = boot-test", "test $(hostname) = boot"),
    (EXAMPLE + "configuration.nix", "guest.authorizedKeys", "guest.authorisedKeys"),
    (EXAMPLE + "flake.nix", "            nixos-proxmox.nixosModules.guest\n", ""),
    (EXAMPLE + "flake.nix", "lib.mkDefault (facts name)", "facts name"),
    (EXAMPLE + "flake.nix", '"/${name}.json"', '"/${name}.jsn"'),
    (EXAMPLE + "facts/web1.json", '"prefixLength": 24', '"prefixLength": 32'),
    (DISK, "guest.diskDevice", "guest.disk"),
    (GUEST + "default.nix", "    ./agent.nix\n", ""),
    (GUEST + "default.nix", "    ./boot-loader.nix\n", ""),
    (GUEST + "default.nix", "    ./console.nix\n", ""),
    (GUEST + "default.nix", "    ./disks.nix\n", ""),
    (GUEST + "default.nix", "    ./identity.nix\n", ""),
    (GUEST + "default.nix", "    ./network.nix\n", ""),
    (GUEST + "default.nix", "    ./options.nix\n", ""),
    (GUEST + "agent.nix", "lib.mkDefault true", "lib.mkDefault false"),
    (GUEST + "agent.nix", "lib.mkDefault true", "true"),
    (GUEST + "agent.nix", "qemuGuest", "qemuGuests"),
    (GUEST + "boot-loader.nix", '"seabios"', '"ovmf"'),
    (GUEST + "boot-loader.nix", '"seabios"', '"bios"'),
    (GUEST + "boot-loader.nix", 'lib.mkDefault (config.nixos-proxmox.guest.bios == "seabios")', 'config.nixos-proxmox.guest.bios == "seabios"'),
    (GUEST + "boot-loader.nix", "(!grub.enable)", "true"),
    (GUEST + "boot-loader.nix", "lib.mkDefault (!grub.enable)", "lib.mkDefault grub.enable"),
    (GUEST + "boot-loader.nix", "canTouchEfiVariables = lib.mkDefault false", "canTouchEfiVariables = lib.mkDefault true"),
    (GUEST + "boot-loader.nix", "canTouchEfiVariables = lib.mkDefault false", "canTouchEfiVariables = false"),
    (GUEST + "console.nix", "ttyAMA0", "ttyS0"),
    (GUEST + "console.nix", "ttyS0,115200", "ttyS1,115200"),
    (GUEST + "console.nix", '    "console=tty1"\n', ""),
    (GUEST + "console.nix", "isAarch64", "isx86_64"),
    (GUEST + "disks.nix", "qemu-guest.nix", "qemu.nix"),
    (GUEST + "disks.nix", 'imports = [ (modulesPath + "/profiles/qemu-guest.nix") ];', ""),
    (GUEST + "disks.nix", '    "sd_mod"\n', ""),
    (GUEST + "disks.nix", '    "virtio_scsi"\n', ""),
    (GUEST + "disks.nix", '    "ahci"\n', ""),
    (GUEST + "disks.nix", "lib.mkDefault false", "lib.mkDefault true"),
    (GUEST + "disks.nix", "lib.mkDefault false", "false"),
    (GUEST + "identity.nix", "lib.mkDefault cfg.hostName", "cfg.hostName"),
    (GUEST + "identity.nix", "lib.mkIf (cfg.hostName != null) (lib.mkDefault cfg.hostName)", "lib.mkDefault cfg.hostName"),
    (GUEST + "identity.nix", "enable = lib.mkDefault true", "enable = lib.mkDefault false"),
    (GUEST + "identity.nix", "enable = lib.mkDefault true", "enable = true"),
    (GUEST + "identity.nix", "lib.mkIf (cfg.hostKeyPath != null) [", "["),
    (GUEST + "identity.nix", "path = cfg.hostKeyPath", 'path = "/etc/ssh/ssh_host_ed25519_key"'),
    (GUEST + "identity.nix", "ssh_host_(.*)_key", "ssh_host_(.*)"),
    (GUEST + "identity.nix", "lib.unique cfg.authorizedKeys", "cfg.authorizedKeys"),
    (GUEST + "identity.nix", "users.users.root", "users.users.admin"),
    (GUEST + "identity.nix", "authorizedKeys.keys", "authorizedKeys.keyFiles"),
    (GUEST + "network.nix", "lib.mkIf cfg.configureNetwork", "lib.mkIf true"),
    (GUEST + "network.nix", "cfg.address != null || ipv6.address != null", "true"),
    (GUEST + "network.nix", "cfg.address != null || ipv6.address != null", "cfg.address != null"),
    (GUEST + "network.nix", "ip.prefixLength == null", "ip.prefixLength == 0"),
    (GUEST + "network.nix", "lib.mkDefault true", "lib.mkDefault false"),
    (GUEST + "network.nix", "useDHCP = lib.mkDefault false", "useDHCP = lib.mkDefault true"),
    (GUEST + "network.nix", "PermanentMACAddress", "PermanentMacAddress"),
    (GUEST + "network.nix", "PermanentMACAddress =", "MACAddress ="),
    (GUEST + "network.nix", "cfg.mac != null", "cfg.mac == null"),
    (GUEST + "network.nix", '            Kind = "!*";\n', ""),
    (GUEST + "network.nix", '            Type = "ether";\n', ""),
    (GUEST + "network.nix", '      "dhcp"\n', ""),
    (GUEST + "network.nix", '      "auto"\n', ""),
    (GUEST + "network.nix", "    ipv6\n", ""),
    (GUEST + "network.nix", "/${toString ip.prefixLength}", "/24"),
    (GUEST + "network.nix", "        GatewayOnLink = true;\n", ""),
    (GUEST + "network.nix", "Gateway = ip.gateway", "Gateways = ip.gateway"),
    (GUEST + "network.nix", "(lib.filter (ip: ip.gateway != null) ips)", "ips"),
    (GUEST + "network.nix", "lib.unique cfg.nameservers", "cfg.nameservers"),
    (GUEST + "network.nix", "      dns = lib.unique cfg.nameservers;\n", ""),
    (GUEST + "network.nix", "lib.mkIf (cfg.searchDomains != [ ]) (lib.unique cfg.searchDomains)", "lib.unique cfg.searchDomains"),
    (GUEST + "network.nix", 'if dhcp4 && dhcp6 then', 'if dhcp4 || dhcp6 then'),
    (GUEST + "network.nix", '"ipv6"', '"ipv4"'),
    (GUEST + "network.nix", 'ipv6.address == "dhcp"', 'ipv6.address == "auto"'),
    (GUEST + "network.nix", '(dhcp6 || ipv6.address == "auto")', "dhcp6"),
    (GUEST + "network.nix", '(dhcp6 || ipv6.address == "auto")', '(ipv6.address == "auto")'),
    (GUEST + "options.nix", "between 100", "between 1"),
    (GUEST + "options.nix", "between 1 128", "between 1 32"),
    (GUEST + "options.nix", 'strMatching "dhcp|${ipv4}"', 'strMatching "${ipv4}"'),
    (GUEST + "options.nix", "[.][0-9]{1,3}){3}", "[.][0-9]{1,3}){2}"),
    (GUEST + "options.nix", "auto|dhcp|${ipv6}", "dhcp|${ipv6}"),
    (GUEST + "options.nix", "(ecdsa|ed25519|rsa)", "(ecdsa|rsa)"),
    (GUEST + "options.nix", '        "ovmf"\n', ""),
    (GUEST + "options.nix", 'then "seabios" else "ovmf"', 'then "ovmf" else "seabios"'),
    (GUEST + "options.nix", 'default = "/dev/sda"', 'defaults = "/dev/sda"'),
    (GUEST + "options.nix", "default = null", 'default = ""'),
    (GUEST + "options.nix", "searchDomains", "searchdomains"),
    (GUEST + "options.nix", "default = true", "default = false"),
    ("flake.nix", "guest = import ./nix/guest", "guest = import ./nix/guests"),
    ("flake.nix", "        guest = import ./nix/guest;\n", ""),
    ("flake.nix", "        disk-image = import ./nix/disk-image.nix;\n", ""),
    ("nix/disk-image.nix", "boot.growPartition = true", "boot.growPartition = false"),
    ("nix/disk-image.nix", "    ./guest/disks.nix\n", ""),
    ("nix/disk-image.nix", '        "NoCloud"\n', ""),
    ("nix/disk-image.nix", "network.enable = true", "network.enable = false"),
    (WRAPPER, "intersectAttrs guest facts", "intersectAttrs facts guest"),
    (WRAPPER, "builtins.intersectAttrs guest facts", "facts"),
    (WRAPPER, "guest == { }", "false"),
    (WRAPPER, "guest == { }", "true"),
    (WRAPPER, "or { };\n      # A module", ";\n      # A module"),
    (WRAPPER, "./machine.json", "./machines.json"),
    (WRAPPER, "then machine else", "then { } else"),
    (WRAPPER, "(available:", "(has:"),
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
