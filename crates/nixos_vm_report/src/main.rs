//! The module's program.

fn main() -> std::process::ExitCode {
    ansible_module::main::<nixos_vm_report::NixosVmReport>()
}
