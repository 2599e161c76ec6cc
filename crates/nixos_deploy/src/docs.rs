//! The module's documentation, besides its options.

use ansible_module::Documentation;

pub(crate) fn documentation() -> Documentation {
    Documentation {
        short_description: "Deploy a NixOS configuration to an installed machine, and undo it if it cuts the machine off",
        description: &[
            "Builds a NixOS configuration on the controller, copies it to an installed machine over SSH, and has the machine switch to it. A \
             second run with the same configuration changes nothing.",
            "The new system is first activated only. The controller then has to log in again, over a new connection and by the known host key, \
             within O(confirm_timeout) seconds. If it cannot, because the configuration cuts off the network or the SSH server, the machine \
             puts the old system back by itself. Only a system that was confirmed is booted from then on. O(action=boot) confirms nothing: with \
             O(reboot=if_needed) the machine restarts into a system that it has not tried.",
            "An activation that fails, or after which units have failed that had not failed before, is undone too.",
            "The activation does not depend on the controller. If the controller is killed, the machine ends with the new or the old system, and \
             the next run begins with that.",
        ],
        notes: &[
            "Run it on the controller (C(delegate_to: localhost)); Nix and an SSH client are needed there, and an installed NixOS with systemd \
             on the machine.",
            "In check mode the configuration is evaluated, and built only with C(--diff), which then lists the packages that change.",
            "A kernel that does not boot is not noticed before a restart. The boot menu has the older generations; a snapshot of the VM \
             (M(proxmox_snapshot)) brings back its disks, too.",
            "Supports check mode and diff mode.",
        ],
        requirements: &["nix 2.20 or newer", "ssh"],
        seealso: &["nixos_anywhere_install", "proxmox_snapshot"],
        examples: r#"
- name: Deploy the configuration of the flake
  nixos_deploy:
    host: 192.0.2.11
    host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUfO5M4RfBxJuKdQDZ6vHxR0mXwq2l0vCUqk0Xn7W3k"]
    flake: ".#web1"
    reboot: if_needed
  delegate_to: localhost

- name: Go back to the generation before
  nixos_deploy:
    host: 192.0.2.11
    host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUfO5M4RfBxJuKdQDZ6vHxR0mXwq2l0vCUqk0Xn7W3k"]
    generation: previous
  delegate_to: localhost

- name: Try a system until the next boot
  nixos_deploy:
    host: 192.0.2.11
    host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUfO5M4RfBxJuKdQDZ6vHxR0mXwq2l0vCUqk0Xn7W3k"]
    store_path: ./result
    action: test
  delegate_to: localhost
"#,
        shared_returns: &[],
        returns: r"
mistakes:
  description: Every mistake that was found in the options, and in the files and programs of the controller.
  returned: when there is any
  type: list
  elements: dict
  contains:
    option:
      description: The name of the option.
      type: str
      returned: always
    problem:
      description: What is wrong with it.
      type: str
      returned: always
system:
  description: The store path of the system that was to be deployed.
  returned: success
  type: str
  sample: /nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-web1-26.05
running_system:
  description: The store path of the system that runs now; in check mode and after a dry activation, as it was found.
  returned: success
  type: str
  sample: /nix/store/0123456789abcdfghijklmnpqrsvwxyz-nixos-system-web1-26.05
previous_system:
  description: The store path of the system that ran before.
  returned: changed, not in check mode
  type: str
  sample: /nix/store/zyxwvsrqpnmlkjihgfdcba9876543210-nixos-system-web1-26.05
generation:
  description: The number of the generation that the next boot starts.
  returned: when the machine has one
  type: int
  sample: 43
reboot_required:
  description: Whether the next boot would start another kernel, other modules or another initrd than those that run.
  returned: if the system is built and O(action) is V(switch) or V(boot)
  type: bool
  sample: false
rebooted:
  description: Whether the machine was restarted.
  returned: changed, not in check mode
  type: bool
  sample: false
packages:
  description: The packages whose versions, or sizes by more than 8 KiB, differ between the running and the new system.
  returned: if something changes and Nix can list both systems
  type: list
  elements: dict
  contains:
    name:
      description: The package's name.
      returned: always
      type: str
      sample: openssh
    before:
      description: Its versions in the running system; empty if it is new.
      returned: always
      type: list
      elements: str
      sample: [10.0p2]
    after:
      description: Its versions in the new system; empty if it is gone.
      returned: always
      type: list
      elements: str
      sample: [10.2p1]
    size:
      description: How many bytes the new system has more of it.
      returned: always
      type: int
      sample: 20480
size_before:
  description: The size of the running system with everything that it needs, in bytes.
  returned: with RV(packages)
  type: int
  sample: 2147483648
size_after:
  description: The size of the new one, in bytes.
  returned: with RV(packages)
  type: int
  sample: 2149580800
output:
  description: The lines that the activation printed, of its last 16 KiB; with O(action=dry-activate) its first 1000 lines.
  returned: changed, and with O(action=dry-activate)
  type: list
  elements: str
  sample: [activating the configuration...]
",
    }
}
