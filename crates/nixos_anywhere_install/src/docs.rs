//! The module's documentation, beyond its options.

use ansible_module::Documentation;

pub(crate) fn documentation() -> Documentation {
    Documentation {
        short_description: "Install a NixOS flake on a reachable machine with nixos-anywhere, once",
        description: &[
            "Asks the machine over SSH what it runs, and installs a NixOS configuration with \
             nixos-anywhere when that is a NixOS installer. A machine that is installed already is \
             left alone; another Linux is refused unless O(allow_kexec).",
            "The machine's host key is verified before anything is sent to it, also by \
             nixos-anywhere itself, which does not do that on its own.",
            "The configuration is built before the machine is touched, by O(state=built) even before \
             there is one, and the installed system is compared with what was built. The machine is \
             neither rebooted nor switched off.",
            "An installation whose bootloader could not be installed is a failure, though \
             nixos-anywhere goes on then.",
        ],
        notes: &[
            "Runs on the controller; delegate it to C(localhost).",
            "Private keys are handed over as files, never as arguments. Access tokens in O(nix_options) are handed over in the \
             environment.",
            "In check mode the machine is asked what it runs, without waiting for it.",
            "Mistakes in the options, missing files and programs are reported together before anything is \
             built or touched, also in check mode. A machine that is installed already is left alone all the same.",
            "Nix waits 5 seconds for a connection to a binary cache instead of its default, unless C(connect-timeout) is set in \
             its configuration or in O(nix_options). A cache that accepts no connection is a warning, unless there is a proxy.",
            "Closures that are larger than the installer's free Nix store or than the machine's disks are a warning.",
        ],
        requirements: &[
            "nix 2.20 or newer",
            "nixos-anywhere; where it is not installed, Nix fetches and runs it (O(nixos_anywhere_flake))",
            "the OpenSSH client, with ssh-copy-id and ssh-keygen",
        ],
        seealso: &["proxmox_nixos_vm", "cloudinit_drive"],
        examples: EXAMPLES,
        shared_returns: &[],
        returns: RETURNS,
    }
}

const EXAMPLES: &str = r#"
- name: Wait until the installer runs
  nixos_anywhere_install:
    host: 192.0.2.11
    private_key_file: ~/.ssh/installer
    host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."]
    state: probed
    expect: installer
    timeout: 600
  delegate_to: localhost

- name: Build the configuration while the machine is being made
  nixos_anywhere_install:
    state: built
    flake: github:me/infra#web1
    log_path: /var/tmp/web1-build.log
  delegate_to: localhost
  register: build
  # To go on at once, add async and poll: 0, and wait with async_status before the installation, which
  # then takes store_paths: "{{ build.store_paths }}" instead of flake.

- name: Install
  nixos_anywhere_install:
    host: 192.0.2.11
    private_key_file: ~/.ssh/installer
    host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."]
    installed_host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."]
    flake: github:me/infra#web1
    extra_files:
      - path: /etc/ssh/ssh_host_ed25519_key
        src: secrets/web1/ssh_host_ed25519_key
    log_path: /var/tmp/web1-install.log
  delegate_to: localhost
  register: install

- name: The installed system runs
  nixos_anywhere_install:
    host: 192.0.2.11
    private_key_file: ~/.ssh/id_ed25519
    installed_host_keys: ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI..."]
    state: verified
    closure: "{{ install.closure }}"
    timeout: 600
  delegate_to: localhost
"#;

const RETURNS: &str = r#"
guest:
  description:
    - What the machine said that it is, when it was first reached.
    - C(kind) is V(unreachable) when it could not be reached and that is not an error.
  returned: unless O(state=built)
  type: dict
  contains:
    kind:
      description: V(installer), V(installed) (NixOS that is not an installer), V(other) or V(unreachable).
      type: str
      returned: always
    id:
      description: C(ID) of its os-release.
      type: str
      returned: when it was reached
    variant_id:
      description: C(VARIANT_ID) of its os-release.
      type: str
      returned: when it was reached
    version:
      description: C(VERSION_ID) of its os-release.
      type: str
      returned: when it was reached
    name:
      description: C(PRETTY_NAME) of its os-release.
      type: str
      returned: when it was reached
    system:
      description: The store path of C(/run/current-system), or null.
      type: str
      returned: when it was reached
    kernel:
      description: Its kernel's name, release and machine.
      type: str
      returned: when it was reached
    hostname:
      description: Its host name.
      type: str
      returned: when it was reached
    host_key:
      description: V(installer) or V(installed), by the list of host keys that its own is in.
      type: str
      returned: when it was reached
closure:
  description: The store path of the system that was installed, or that runs.
  returned: when known
  type: str
  sample: /nix/store/2f1m...-nixos-system-web1-26.05
closure_size:
  description: The size of the system with all that it needs, in bytes. Null if Nix does not report it.
  returned: with O(state=built), if it was built on the controller
  type: int
store_paths:
  description:
    - What was built, as O(store_paths) takes it.
    - Null when it is not built on the controller (O(build_on), O(generate_hardware_config)).
  returned: with O(state=built), unless a check would build it
  type: dict
  contains:
    disko:
      description: Disko's script.
      type: str
      returned: always
    system:
      description: The system.
      type: str
      returned: always
installables:
  description: What was built, or would be in check mode, as C(nix build) takes it.
  returned: with O(state=built) and O(flake)
  type: list
  elements: str
phases:
  description: The phases of the installation, or of what was built, in order.
  returned: when something was installed or built, also on failure
  type: list
  elements: dict
  contains:
    name:
      description: As nixos-anywhere names it.
      type: str
      returned: always
    seconds:
      description: How long it took.
      type: float
      returned: always
hardware_config:
  description: The content of the file that O(generate_hardware_config) names.
  returned: when something was installed, with O(generate_hardware_config)
  type: str
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
released:
  description: Whether the installed system was unmounted on the installer.
  returned: when something was installed
  type: bool
failed_units:
  description: The systemd units that failed on the machine; null where there is no systemd.
  returned: with O(state=verified)
  type: list
  elements: str
log_path:
  description: The log file, or null.
  returned: when something was installed or built, also on failure
  type: str
"#;
