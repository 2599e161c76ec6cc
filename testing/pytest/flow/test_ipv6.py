"""Real guests that are reached by IPv6: one with IPv6 alone, one with both families.

The guests are on a bridge in a network namespace of its own, since QEMU's user-mode network leads no connection to a guest by IPv6.
"""

import os

import pytest
from conftest import PROJECT
from machines import Machine
from networks import run_in_own_network

HOSTS = """
nixos_vms:
  hosts:
    {name}:
      nixos_vm_ip: {ip}
      nixos_vm_gateway: {gateway}
      nixos_vm_address_family: {family}
      ansible_port: 22
      ansible_ssh_common_args: -o StrictHostKeyChecking=yes -o UserKnownHostsFile={state}/known_hosts
      ansible_ssh_args: -o ControlMaster=no
      nixos_vm_tools_path: {tools}
      nixos_vm_flake: "{project}/testing/demo/flake#{name}"
      nixos_vm_memory: 384
      nixos_vm_install_memory: 512
"""

# What users go on with: a play that uses the host at once, as any other.
SITE = """
- ansible.builtin.import_playbook: {project}/provision.yml
- hosts: nixos_vms
  gather_facts: false
  tasks:
    - ansible.builtin.raw: readlink -f /run/current-system; cat /proc/net/if_inet6
      register: seen
      changed_when: false
    - ansible.builtin.assert:
        that:
          - nixos_vm_facts.address == '{address}' == ansible_host
          - nixos_vm_facts.closure in seen.stdout
        fail_msg: "{{{{ seen.stdout_lines }}}}"
"""

OWN_NETWORK = """\
ip link set lo up && ip link add vmbr0 type bridge && ip addr add 10.77.0.1/24 dev vmbr0 &&
ip addr add fd77::1/64 dev vmbr0 nodad && ip link set vmbr0 up"""


@pytest.mark.skipif(os.geteuid() != 0 or not os.access("/dev/net/tun", os.R_OK | os.W_OK), reason="NOT RUN: needs root and /dev/net/tun")
def test_in_a_network_of_its_own():
    run_in_own_network(__file__, "by_ipv6*", OWN_NETWORK)


@pytest.fixture
def machine(tmp_path, request):
    name, address, ip, gateway, family = request.param
    machine = Machine(tmp_path, "tiny", name, 11)
    machine.address, machine.port = address, 22
    text = HOSTS.format(
        name=name, ip=ip, gateway=gateway, family=family, state=machine.state, tools=machine.lab.path / "tools", project=PROJECT
    )
    (machine.inventory / "hosts.yml").write_text(text)
    yield machine
    machine.end()


@pytest.mark.parametrize("machine", [
    ("web1", "fd77::11", "FD77:0::11/64", "fd77::1", "any"),
    ("web2", "fd77::12", "[10.77.0.12/24, 'fd77::12/64']", "[10.77.0.1, 'fd77::1']", "ipv6"),
], indirect=True, ids=["alone", "both_families"])
def by_ipv6(machine, tmp_path):
    site = tmp_path / "site.yml"
    site.write_text(SITE.format(project=PROJECT, address=machine.address))
    output, _, failed = machine.play(playbook=str(site))
    assert failed == 0, output
    machine.assert_installed()
    known = [line.split(" ")[0] for line in (machine.state / "known_hosts").read_text().splitlines()]
    assert known == ([machine.address] if machine.name == "web1" else [machine.address, "10.77.0.12"])
    # The system has the addresses of its installer, and no other.
    addresses = machine.ssh("ip -o address show scope global").splitlines()
    assert sorted(line.split()[3] for line in addresses) == sorted(["fd77::11/64"] if machine.name == "web1" else ["10.77.0.12/24", "fd77::12/64"])
    boot = machine.boot_id()
    output, changed, failed = machine.play(playbook=str(site))
    assert (changed, failed) == (0, 0), output
    assert machine.boot_id() == boot
    machine.destroy()
