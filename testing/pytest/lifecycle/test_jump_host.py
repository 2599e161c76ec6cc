"""Machines that the controller reaches only through a jump host: nothing else knows the addresses that the inventory has."""

import itertools

import pytest
from hop import JumpHost


NUMBERS = itertools.count(1)


@pytest.fixture
def hop(tmp_path):
    hop = JumpHost(tmp_path / "hop")
    yield hop
    hop.stop()


@pytest.fixture
def behind(world, hop):
    """Make a machine behind the jump host. Its address is one of a documentation network, which leads nowhere."""

    def machine(**variables):
        address = f"192.0.2.{next(NUMBERS)}"
        web = world.machine(**{"ansible_host": address, **hop.options("nixos_vm_"), **variables})
        hop.knows[address, world.ssh_port] = (web.address, world.ssh_port)
        web.outside = address
        return web

    return machine


def test_the_whole_life_of_a_machine_goes_through_it(world, hop, behind, flake):
    web = behind(nixos_vm_flake=flake.uri, nixos_vm_deploy_timeout=5)
    there = (web.outside, world.ssh_port)
    web.play().succeeded()
    assert web.vm.record["phase"] == "done"
    installed = len(hop.asked)
    # Whether the address is free, the installer, each ssh of nixos-anywhere, and the installed system.
    assert installed >= 8 and set(hop.asked) == {there}
    # The keys of the installer and of the machine are offered to these alone.
    assert len(hop.offered) == 1
    # What knows the machine is its own key, as ever.
    known = (web.state() / "known_hosts").read_text()
    assert known.startswith(f"[{web.outside}]:{world.ssh_port} ssh-ed25519 ")
    assert web.play().succeeded().changed == 0

    flake(2)
    old = web.vm.disk.system
    assert web.play(playbook="playbooks/deploy.yml").succeeded().changed == 1
    assert web.vm.disk.system != old and len(hop.asked) > installed

    # Its host key is read from the running machine.
    before = len(hop.asked)
    world.guests.given_up.add(web.vm.vmid)
    web.play(nixos_vm_confirm_reinstall=web.name).succeeded()
    assert (web.state() / "known_hosts").read_text() == known
    assert len(hop.asked) > before and set(hop.asked) == {there} and len(hop.offered) == 1
    web.destroy().succeeded()


def test_a_jump_host_that_cannot_be_used_is_refused_before_there_is_a_vm(world, hop, behind):
    for wrong, said in [
        ({"nixos_vm_jump_host_keys": []}, "nixos_vm_jump_host: jump host jump@127.0.0.1:{port}: its host key is not known"),
        ({"nixos_vm_jump_host": "nobody@127.0.0.1:{port}"}, "refused the login"),
        ({"nixos_vm_jump_host": "nobody@127.0.0.1:{port}", "nixos_vm_ip": "dhcp", "ansible_host": ""}, "refused the login"),
        ({"nixos_vm_jump_host": "127.0.0.1:{port}:1"}, "nixos_vm_jump_host: must have brackets around an IPv6 address"),
        ({"nixos_vm_jump_host": ""}, "nixos_vm_jump_host_keys: requires nixos_vm_jump_host"),
        (
            {"nixos_vm_install_options": {"ssh_options": {"ProxyJump": "other"}}},
            "nixos_vm_install_options: ssh_options: ProxyJump: must be the same as nixos_vm_jump_host",
        ),
        ({"nixos_vm_install_options": {"jump_host": "other"}}, "nixos_vm_install_options.jump_host: is decided by the role"),
    ]:
        text = {name: value.format(port=hop.port) if isinstance(value, str) else value for name, value in wrong.items()}
        web = behind(**text)
        web.play().refused(said.format(port=hop.port))
        assert web.vms == []
    hop.closed = True
    web = behind()
    web.play().refused("administratively prohibited")
    assert web.vms == []


def test_a_jump_host_that_fails_later_decides_nothing(world, hop, behind):
    """The run that goes on must know who answers: a jump host that is closed is not a machine that is silent."""
    web = behind()
    web.behaves(fails=("install",))
    assert web.play().code != 0
    web.behaves()
    record = web.vm.record
    hop.closed = True
    result = web.play()
    result.refused("administratively prohibited")
    assert web.vm.record == record
    hop.closed = False
    web.play().succeeded()
    assert web.vm.record["phase"] == "done"
