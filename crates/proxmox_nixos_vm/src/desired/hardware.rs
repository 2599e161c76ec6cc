//! Devices that the described machine does not have.

use pve_client::property::{self, PropertyString};

use crate::config::cpu::Cpu;
use crate::config::machine;
use crate::desired::from_options::Builder;

impl Builder {
    /// IDE drives that the described machine does not have: QEMU would refuse to start it.
    pub(super) fn refuse_not_on_machine(&mut self) {
        let plain = |name: &str| {
            self.desired
                .plain
                .get(name)
                .and_then(Option::as_deref)
                .unwrap_or_default()
        };
        let (machine, arch) = (plain("machine"), plain("arch"));
        let mistakes: Vec<String> = self
            .desired
            .drives
            .keys()
            .chain(self.desired.plain.keys())
            .filter_map(|key| {
                Some(format!(
                    "{key}: {}",
                    machine::refusal(key, Some(machine), Some(arch))?
                ))
            })
            .collect();
        let cpu = Cpu::parse(plain("cpu"));
        let cpu = cpu.and_then(|cpu| cpu.refusal(Some(arch), Some(plain("kvm"))));
        self.mistakes.extend(mistakes);
        self.mistakes.extend(cpu.map(|why| format!("cpu: {why}")));
        self.refuse_missing_pcie();
    }

    /// PVE does not start a VM that has a PCI Express device and another machine than q35 or virt.
    fn refuse_missing_pcie(&mut self) {
        let Some(Some(machine)) = self.desired.plain.get("machine") else {
            return;
        };
        if !machine::machine_type(machine).starts_with("pc") || machine.contains("q35") {
            return;
        }
        let pcie = |text: &str| {
            let parts = PropertyString::parse(text, Some("host"));
            parts.is_ok_and(|parts| parts.get("pcie").and_then(property::parse_bool) == Some(true))
        };
        let devices = self.desired.plain.iter().filter(|(key, value)| {
            key.starts_with("hostpci") && value.as_deref().is_some_and(pcie)
        });
        let mistakes: Vec<String> = devices
            .map(|(key, _)| format!("{key}: pcie needs the machine q35 (got '{machine}')"))
            .collect();
        self.mistakes.extend(mistakes);
    }
}
