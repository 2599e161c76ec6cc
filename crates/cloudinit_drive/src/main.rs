//! The Ansible module `cloudinit_drive`.

fn main() -> std::process::ExitCode {
    ansible_module::main::<cloudinit_drive::CloudinitDrive>()
}
