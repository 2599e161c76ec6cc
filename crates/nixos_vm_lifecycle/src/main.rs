//! The Ansible module `nixos_vm_lifecycle`.

use nixos_vm_lifecycle::{NixosVmLifecycle, build};

fn main() -> std::process::ExitCode {
    if build::is_this_process() {
        return build::main();
    }
    ansible_module::main::<NixosVmLifecycle>()
}
