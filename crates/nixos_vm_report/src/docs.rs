//! What the module's documentation says beyond its options.

use ansible_module::Documentation;

pub fn documentation() -> Documentation {
    Documentation {
        short_description: "What a run of the role nixos_vm would do to all machines",
        description: &[
            "Puts what M(nixos_vm_lifecycle) with C(step=plan) returned for each host into one report: what differs, why a run would be \
             refused, what several hosts claim, and what nodes and storages have left. Does not contact Proxmox VE or a machine.",
            "The difference of the task is the report as text: set C(diff: true) to see it.",
        ],
        notes: &[
            "Runs on the controller: delegate it to V(localhost).",
            "Supports check mode, in which O(path) is not written, and diff mode.",
        ],
        requirements: &[],
        seealso: &["nixos_vm_lifecycle"],
        examples: r#"
- name: Report what a run would do
  nixos_vm_report:
    plans: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, 'planned'))) }}"
    path: plan.html
  delegate_to: localhost
  run_once: true
  diff: true
  register: report
"#,
        shared_returns: &[],
        returns: r"
counts:
  description: How many hosts there are for each of V(create), V(resume), V(reinstall), V(change), V(none) and V(refuse).
  returned: success
  type: dict
  sample: {create: 2, none: 1}
conflicts:
  description: What several hosts of the play claim, such as an address, with RV(ignore:variable) and RV(ignore:hosts) of each.
  returned: success
  type: list
  elements: dict
capacity_warnings:
  description: Nodes and storages that have too little for all machines.
  returned: success
  type: list
  elements: str
failed_hosts:
  description: The hosts that the play is to fail for, and why, by O(fail_on).
  returned: success
  type: dict
",
    }
}
