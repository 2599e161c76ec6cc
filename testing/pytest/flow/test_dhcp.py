"""A machine whose address nobody knows beforehand: DHCP gives it, and its guest agent reports it."""

import pytest
from conftest import PROJECT
from machines import Machine
from networks import run_in_own_network

# The first that the test host's DHCP gives.
NUMBER = 100

HOSTS = """
nixos_vms:
  hosts:
    web1:
      nixos_vm_ip: dhcp
      ansible_port: 2222
      ansible_ssh_common_args: -o StrictHostKeyChecking=yes -o HostKeyAlias=web1 -o UserKnownHostsFile={state}/known_hosts
      ansible_ssh_args: -o ControlMaster=no
      nixos_vm_tools_path: {tools}
      nixos_vm_flake: "{project}/testing/demo/flake#web1"
      nixos_vm_memory: 384
      nixos_vm_install_memory: 512
"""

# What users go on with: a play that uses the host at once, as any other.
SITE = """
- ansible.builtin.import_playbook: {project}/provision.yml
- hosts: nixos_vms
  gather_facts: false
  tasks:
    - ansible.builtin.raw: hostname; readlink -f /run/current-system
      register: seen
      changed_when: false
      when: not ansible_check_mode
    - ansible.builtin.assert:
        that:
          - nixos_vm_facts.guest_address == '10.77.0.100' and nixos_vm_facts.address == '10.77.0.100' == ansible_host
          - ansible_check_mode or seen.stdout_lines[-2:] | map('trim') | list == ['web1', nixos_vm_facts.closure]
        fail_msg: "{{ seen.stdout_lines | default('') }}"
"""


# Where every address of the guests is one of the computer's own, the test host forwards from the very address that a guest reports.
OWN_NETWORK = 'ip link set lo up && ip route add local 10.77.0.0/16 dev lo src 127.0.0.1'


def test_in_a_network_of_its_own():
    run_in_own_network(__file__, "an_address_from_dhcp", OWN_NETWORK)


@pytest.fixture
def machine(tmp_path):
    machine = Machine(tmp_path, "tiny", "web1", NUMBER)
    text = HOSTS.format(state=machine.state, tools=machine.lab.path / "tools", project=PROJECT)
    (machine.inventory / "hosts.yml").write_text(text)
    machine.address = "10.77.0.100"
    yield machine
    machine.end()


def an_address_from_dhcp(machine, tmp_path):
    site = tmp_path / "site.yml"
    site.write_text(SITE.format(project=PROJECT))
    output, _, failed = machine.play(playbook=str(site))
    assert failed == 0, output
    machine.assert_installed()
    known = (machine.state / "known_hosts").read_text()
    assert [line.split(" ")[0] for line in known.splitlines()] == ["[10.77.0.100]:2222", "web1"]

    # What the agent of the installed system reports.
    told = machine.lab.module("proxmox_nixos_vm", name="web1", node="pve", state="current", guest_facts=True)
    agent = told.data["guest_agent"]
    mac = told.data["config"]["net0"].split(",")[0].removeprefix("virtio=").lower()
    assert (agent["hostname"], agent["address"], agent["addresses"][0]) == ("web1", "10.77.0.100", "10.77.0.100")
    assert agent["os"]["id"] == "nixos" and agent["os"]["kernel_release"]
    assert [card["addresses"][0] for card in agent["interfaces"] if card["mac"] == mac] == ["10.77.0.100/24"]

    # Again: its address is asked for, and nothing else is done.
    boot = machine.boot_id()
    for flags in ((), ("--check", "--diff")):
        output, changed, failed = machine.play(*flags, playbook=str(site))
        assert (changed, failed) == (0, 0), output
    assert machine.boot_id() == boot

    # A check of one that is stopped asks for nothing that could be answered.
    machine.end_guest()
    output, changed, failed = machine.play("--check")
    assert (changed, failed) == (1, 0), output
