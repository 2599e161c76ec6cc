//! The Ansible module `proxmox_nixos_vm`.

fn main() -> std::process::ExitCode {
    ansible_module::main::<proxmox_nixos_vm::ProxmoxNixosVm>()
}
