"""playbooks/destroy.yml removes the machines that were named, and no other."""

import json

import pytest
from simulation import World


@pytest.fixture(scope="module")
def second_site(tmp_path_factory):
    site = World(tmp_path_factory.mktemp("world") / "second-site")
    yield site
    site.end()


STOCK = {"half_written": 1, "finished": 1}


def destroy(world, machines, confirmed, *flags):
    """With this confirmation, whatever the machines are called."""
    extra = json.dumps({"nixos_vm_confirm_destroy": confirmed})
    return world.controller.play(machines, "-e", extra, *flags, playbook="playbooks/destroy.yml")


def test_a_short_name_of_two_sites_confirms_nothing(world, second_site):
    paris, berlin = world.machine("web"), second_site.machine("web")
    short = paris.name
    paris.name, berlin.name = f"{short}.paris.example.org", f"{short}.berlin.example.org"
    elsewhere = {f"nixos_vm_{key}": value for key, value in second_site.connection.items()}
    berlin.variables = {**elsewhere, "nixos_vm_gateway": f"{second_site.inside_block}.253", "ansible_ssh_private_key_file": str(second_site.login_key)}
    both = [paris, berlin]
    world.controller.play(both).succeeded()
    (first,), (second,) = ([vm for vm in site.vms() if vm.config["name"] == short] for site in (world, second_site))
    with world.untouched(first), second_site.untouched(second):
        destroy(world, both, short).refused(paris.name, berlin.name)
    with second_site.untouched(second):
        destroy(world, both, paris.name)
    assert not first.exists
    # Paris is gone already, which is not a reason to fail.
    destroy(world, both, [berlin.name, paris.name]).succeeded()
    assert not second.exists


def test_a_vmid_of_two_sites_confirms_nothing(world, second_site):
    """Every cluster counts from 100 on, so one number may mean two machines of a play."""
    here, there = world.machine("here", nixos_vm_vmid=8100), second_site.machine("there")
    elsewhere = {f"nixos_vm_{key}": value for key, value in second_site.connection.items()}
    login = {"ansible_ssh_private_key_file": str(second_site.login_key), "nixos_vm_gateway": f"{second_site.inside_block}.253"}
    there.variables = {**elsewhere, **login, "nixos_vm_vmid": 8100}
    both = [here, there]
    world.controller.play(both).succeeded()
    with world.untouched(here.vm), second_site.untouched(there.vm):
        play = destroy(world, both, 8100)
    for host, other in (both, both[::-1]):
        assert "8100" in play.failures[host.name][0] and other.name in play.failures[host.name][0]
    vm = there.vm
    with world.untouched(here.vm):
        destroy(world, both, 8100, "--limit", there.name).succeeded()
    assert not vm.exists


def test_several_are_confirmed_by_name_or_by_vmid(world):
    hosts = [world.machine() for _ in range(3)]
    world.controller.play(hosts).succeeded()
    vms = [host.vm for host in hosts]
    with world.untouched(*vms):
        world.controller.play(hosts, playbook="playbooks/destroy.yml").refused("nixos_vm_confirm_destroy")
    with world.untouched(vms[2]):
        destroy(world, hosts, [hosts[0].name, vms[1].vmid])
    assert [vm.exists for vm in vms] == [False, False, True]
    assert not hosts[0].state().exists() or not [path for path in hosts[0].state().rglob("*key*") if path.suffix != ".pub"]
    destroy(world, hosts[2:], str(vms[2].vmid)).succeeded()
    assert not vms[2].exists


def test_what_is_not_the_role_s_is_not_destroyed(world, finished):
    """Made by hand; a clone; another host's machine that has this host's name."""
    made, cloned, named = (world.machine() for _ in range(3))
    other = finished
    by_hand = world.in_production(made, tags="nixos-installed")
    clone = other.vm.clone(cloned.name)
    clone.store("the clone's data")
    vm = other.vm
    copied = named.with_variables(nixos_vm_name=other.name)
    with world.untouched(by_hand, clone, vm), world.unchanged():
        for host, target in ((made, by_hand), (cloned, clone), (copied, vm)):
            destroy(world, [host], host.name).refused(str(target.vmid))
            destroy(world, [host], target.vmid).refused(str(target.vmid))
        # A copied nixos_vm_name is what --limit hides from a look at the whole play.
        destroy(world, [other, copied], copied.name, "--limit", copied.name).refused(str(vm.vmid))


def test_a_machine_under_way_can_be_destroyed(world, half_written):
    web, vm = half_written, half_written.vm
    web.destroy().succeeded()
    assert not vm.exists
    isos = [path.name for path in world.pve.glob("storage/local/template/iso/*")]
    assert isos == ["installer.iso"], isos
    web.play().succeeded()
