//! The module's documentation, besides its options.

use ansible_module::Documentation;

/// It is one text, in the order in which it is shown.
pub(crate) fn documentation() -> Documentation {
    Documentation {
        short_description: "List the virtual machines of a Proxmox VE cluster as hosts of an inventory",
        description: &[
            "Reads the VMs of a cluster in one request, and returns each as a host with variables and groups. The inventory plugin \
             C(nixos_proxmox.pve.inventory) runs this module and makes an inventory of its results. A task may use it, too.",
            "Containers are not listed.",
            "A VM's name is the name of its host. A VM whose name another listed VM has, or that is not safe as a host name (such as \
             V(localhost) or an IP address), is called V(vm_VMID), with a warning. No VM can have such a name of its own, so no VM replaces \
             another one.",
            "Names, tags, notes and what guest agents report prove nothing: whoever may change a VM or is root in it chooses them. Loopback, \
             link-local and multicast addresses are left out. O(known_hosts) has C(ssh) check whom it talks to.",
        ],
        notes: &[
            "Run it on the controller (C(delegate_to: localhost)); it needs nothing there.",
            "Privileges: VM.Audit on the VMs; for their agents VM.GuestAgent.Audit (Proxmox VE 8: VM.Monitor).",
            "Proxmox VE reports names and states with a delay of up to ten seconds.",
            "What cannot be read of a single VM is a warning, and the variable C(fact_gathering_error) of its host (with O(facts_prefix)).",
        ],
        seealso: &["proxmox_nixos_vm"],
        examples: r#"
- name: List the web servers
  nixos_vm_inventory:
    tags: [web]
  delegate_to: localhost
  register: listed

- name: Add them to the inventory of this run
  ansible.builtin.add_host:
    name: "{{ item.name }}"
    groups: "{{ item.groups }}"
    ansible_host: "{{ item.vars.ansible_host | default(item.name) }}"
  loop: "{{ listed.hosts }}"
"#,
        shared_returns: &[pve_module::MISSING_PRIVILEGE],
        returns: r"
hosts:
  description: The hosts, by their VMIDs.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The name of the host.
      returned: always
      type: str
      sample: web1
    vars:
      description: Its variables, among them C(ansible_host) if an address is known.
      returned: always
      type: dict
      sample: {proxmox_vmid: 101, proxmox_node: pve1, proxmox_status: running, ansible_host: 192.0.2.11}
    groups:
      description: The groups that it is in.
      returned: always
      type: list
      elements: str
      sample: [proxmox_all_qemu, proxmox_all_running, proxmox_pve1_qemu, proxmox_tag_web]
groups:
  description: Groups that there are even if no host is in them.
  returned: success
  type: list
  elements: str
  sample: [proxmox_all_qemu, proxmox_all_running, proxmox_all_stopped]
",
        ..Documentation::default()
    }
}
