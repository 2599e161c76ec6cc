//! The Ansible module `nixos_anywhere_install`.

fn main() -> std::process::ExitCode {
    ansible_module::main::<nixos_anywhere_install::NixosAnywhereInstall>()
}
