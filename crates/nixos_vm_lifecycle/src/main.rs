//! The Ansible module `nixos_vm_lifecycle`.

fn main() -> std::process::ExitCode {
    ansible_module::main::<nixos_vm_lifecycle::NixosVmLifecycle>()
}
