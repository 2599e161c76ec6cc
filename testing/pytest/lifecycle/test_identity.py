"""One host, one machine, one identity: whatever is renamed, and whoever shares the state directory."""

import pytest
from simulation import World


STOCK = {"provisioned": 2, "finished": 2, "cut_off": 2}


def test_a_new_name_in_the_inventory_makes_no_second_machine(world, provisioned):
    """Else two VMs would have one address and one host key, and the installation went onto the old one."""
    web, vm = provisioned, provisioned.vm
    renamed = web.with_variables(nixos_vm_name=f"{web.name}-prod")
    with world.untouched(vm), world.unchanged():
        renamed.play().refused(str(vm.vmid), f"nixos_vm_vmid: {vm.vmid}")
    assert renamed.vms == []
    # As the message says.
    renamed.with_variables(nixos_vm_name=f"{web.name}-prod", nixos_vm_vmid=vm.vmid).play().succeeded()
    assert vm.config["name"] == f"{web.name}-prod" and vm.disk.formats == 1 and vm.record["phase"] == "done"


def test_a_vm_that_a_person_renamed_is_found_again(world, finished):
    vm = finished.vm
    vm.set(name="renamed-in-the-gui")
    with world.untouched(vm), world.unchanged():
        finished.play().refused(str(vm.vmid), "renamed-in-the-gui", f"nixos_vm_vmid: {vm.vmid}")
    assert finished.vms == []


def test_a_machine_that_is_gone_is_made_anew(world, finished):
    """The controller's record of a VM that does not exist any more keeps nobody from it."""
    web = finished
    web.vm.destroy()
    web.play().succeeded()
    assert web.vm.record["phase"] == "done" and web.vm.disk.formats == 1


@pytest.fixture(scope="module")
def second_site(tmp_path_factory):
    site = World(tmp_path_factory.mktemp("world") / "second-site")
    yield site
    site.end()


def test_two_inventories_with_one_host_name_share_one_state_directory(world, second_site):
    """Staging and production, from one account: each machine has keys of its own, and survives the other's end."""
    staging = world.machine("twin")
    production = second_site.machine("twin")
    production.name = staging.name
    shared = {"nixos_vm_state_root": str(world.controller.state)}
    staging.play().succeeded()
    production.play(**shared).succeeded()
    assert staging.vm.disk.host_keys != production.vm.disk.host_keys
    assert staging.vm.record["installation"] != production.vm.record["installation"]
    with world.untouched(staging.vm), second_site.untouched(production.vm):
        assert staging.play().succeeded().changed == 0
        assert production.play(**shared).succeeded().changed == 0
    kept = sorted(path.name for path in (staging.state() / production.vm.record["installation"]).iterdir())
    staging.destroy().succeeded()
    assert sorted(path.name for path in (staging.state() / production.vm.record["installation"]).iterdir()) == kept
    with second_site.untouched(production.vm):
        assert production.play(**shared).succeeded().changed == 0


def test_two_inventories_under_way_do_not_take_each_other_s_keys(world, second_site, provisioned):
    staging = provisioned
    production = second_site.machine("twin")
    production.name = staging.name
    shared = {"nixos_vm_state_root": str(world.controller.state)}
    production.play(**shared).succeeded()
    staging.play().succeeded()
    assert staging.vm.disk.host_keys != production.vm.disk.host_keys


@pytest.mark.parametrize("stopped", [False, True], ids=["runs", "stopped"])
def test_what_another_controller_began_again_is_not_the_end_of_the_first(world, cut_off, stopped):
    """The first controller knows that nixos-anywhere ended well. The second formats the disk again, and fails then."""
    cut_off.behaves(fails=("install",))
    cut_off.play(controller=world.controller_named("second")).refused()
    assert cut_off.vm.disk.formats == 2 and not cut_off.vm.disk.system
    cut_off.behaves()
    if stopped:
        cut_off.vm.stop()
    cut_off.play().succeeded()
    assert cut_off.vm.disk.formats == 3 and cut_off.vm.record["phase"] == "done"
