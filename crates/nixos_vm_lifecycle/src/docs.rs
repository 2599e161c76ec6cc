//! What the module's documentation says beyond its options.

use ansible_module::Documentation;

/// It is long because it is one text, in the order in which it is shown.
pub fn documentation() -> Documentation {
    Documentation {
        short_description: "One step of a NixOS machine's life on Proxmox VE",
        description: &[
            "What the role C(nixos_vm) does, a step a task. Each step reads the machine, decides by what it finds, and calls the other \
             modules of this collection.",
            "Whose VM it is and how far its installation has come stands in a record, one line of the VM's notes, which names the VM by \
             values that no clone and no rolled back snapshot has. Without that record nothing is changed, unless \
             O(settings.adopt) says so; and nothing is ever installed onto such a VM.",
        ],
        notes: &[
            "Runs on the controller: delegate it to V(localhost).",
            "Supports check mode and diff mode.",
        ],
        requirements: &[
            "ssh-keygen (OpenSSH)",
            "ansible-vault, for O(settings.host_keys_vault_password_file)",
            "nix and nixos-anywhere, for the installation",
        ],
        seealso: &[
            "proxmox_iso",
            "proxmox_nixos_vm",
            "cloudinit_drive",
            "nixos_anywhere_install",
            "nixos_vm_report",
        ],
        examples: r#"
- name: Read the machine and decide what it needs
  nixos_vm_lifecycle:
    step: decide
    host: "{{ inventory_hostname }}"
    settings:
      api_host: pve1.example.org
      api_user: ansible@pve
      api_token_id: deploy
      api_token_secret: "{{ vault_pve_token }}"
      name: web1
      node: pve1
      ip: 192.0.2.11/24
      flake: github:me/infra#web1
      installer_iso: /srv/iso/nixos-installer.iso
  delegate_to: localhost
  register: plan
"#,
        shared_returns: &[],
        returns: r#"
phase:
  description: How far the machine has come; V(absent) if there is none.
  returned: with O(step=decide)
  type: str
  sample: done
due:
  description: The steps that are due.
  returned: with O(step=decide)
  type: list
  elements: str
  sample: [image, upload, provision, boot, install, finalize]
plan:
  description: What a run would do to the machine, and what that takes, for M(nixos_vm_report).
  returned: with O(step=plan)
  type: dict
commands:
  description: Commands for a shell of a node that grant privileges which are missing.
  returned: when an installation is refused for privileges
  type: list
  elements: str
claims:
  description: What the host claims for its machine, such as an address, for M(nixos_vm_report).
  returned: with O(step=plan), if a run would be refused
  type: list
  elements: dict
run:
  description: This run, for the other steps of this play.
  returned: with O(step=decide)
  type: dict
facts:
  description: The facts of the machine for later plays.
  returned: with O(step=decide), O(step=provision) and O(step=finalize)
  type: dict
mistakes:
  description: What is wrong with the variables, or missing, one sentence each.
  returned: when an installation is refused for it
  type: list
  elements: str
status:
  description: V(running) or V(stopped).
  returned: for a finished machine
  type: str
pending:
  description: Changes that wait for the next stop and start.
  returned: for a finished machine
  type: list
  elements: dict
restart_required:
  description: Whether there are such changes.
  returned: for a finished machine
  type: bool
volid:
  description: The installer ISO on the storage.
  returned: with O(step=upload)
  type: str
host_keys:
  description: The public host keys.
  returned: with O(step=keys)
  type: list
  elements: str
age_recipient:
  description: The age recipient of the Ed25519 host key, which sops-nix decrypts for. Empty without such a key.
  returned: with O(step=keys)
  type: str
host_keys_dir:
  description: The directory with the keys of all hosts.
  returned: with O(step=keys)
  type: str
address:
  description: The machine's address.
  returned: with O(step=boot)
  type: str
phases:
  description: The phases of the installation, with the seconds that each took.
  returned: with O(step=install)
  type: list
  elements: dict
console:
  description: The last lines of the VM's serial console, without control characters. The guest chooses what they say.
  returned: when a machine that was started does not answer, with O(settings.console)
  type: list
  elements: str
console_log:
  description: All that the console printed, up to 1 MiB.
  returned: with RV(console), if that has lines
  type: str
log_path:
  description: The log of the installation.
  returned: with O(step=install)
  type: str
"#,
    }
}
