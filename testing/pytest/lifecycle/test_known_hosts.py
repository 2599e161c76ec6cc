"""The controller's files: every machine's host key is known, and nothing else is lost or left readable."""

import json
import stat

import pytest
from conftest import login_by_key
from simulation.world import PROJECT


STOCK = {"finished": 3}


def test_many_machines_share_one_file(world):
    """Formerly lines of hosts that wrote at the same time were lost."""
    hosts = [world.machine() for _ in range(8)]
    file = world.path / "shared_known_hosts"
    file.write_text("a line of the user's that is not an entry\n")
    play = world.controller.play(hosts, nixos_vm_known_hosts=str(file)).succeeded()
    print(f"8 machines: {play.seconds:.1f} s")
    text = file.read_text()
    assert text.startswith("a line of the user's")
    for host in hosts:
        assert text.count(f"[{host.address}]:{world.ssh_port} ") == 1
    assert login_by_key(hosts[0], file).returncode == 0
    assert world.controller.play(hosts, nixos_vm_known_hosts=str(file)).succeeded().changed == 0
    assert file.read_text() == text
    # A line that got lost comes back, alone.
    file.write_text(text.replace(f"[{hosts[0].address}]", "[gone]"))
    world.controller.play(hosts, nixos_vm_known_hosts=str(file)).succeeded()
    assert login_by_key(hosts[0], file).returncode == 0


def test_a_machine_with_a_new_address_is_known_there(world, finished):
    web, elsewhere = finished, world.machine()
    disk = web.vm.disk
    disk.address = elsewhere.inside
    web.vm.disk = disk
    web.vm.stop()
    web.vm.start()
    web.vm.await_listening()
    moved = web.with_variables(ansible_host=elsewhere.address, nixos_vm_ip=f"{elsewhere.inside}/24")
    moved.address = elsewhere.address
    moved.play().succeeded()
    assert login_by_key(moved, web.state() / "known_hosts").returncode == 0


def test_another_controller_knows_a_machine_whose_key_it_is_given(world, finished):
    web = finished
    public = next(web.state().rglob("host_key_ed25519.pub")).read_text().strip()
    second = world.controller_named("second")
    given = web.with_variables(nixos_vm_ssh_host_key={"public": public})
    given.play(controller=second).succeeded()
    assert login_by_key(web, web.state(second) / "known_hosts").returncode == 0


def test_nothing_is_left_but_what_is_needed(world, finished):
    """Private keys are gone, and what stays is nobody else's to read."""
    web = finished
    files = {path.name for path in web.state().rglob("*") if path.is_file()}
    logs = {"install.log", "console-installer.log", "console-system.log"}
    assert files == {"known_hosts", "record.json", "host_key_ed25519.pub", "closure", *logs}, files
    for path in (web.state(), *web.state().rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0 or path.suffix == ".pub" or path.name == "known_hosts", (path, oct(mode))
    assert world.controller.files_with("PRIVATE KEY") == []
    assert world.controller.files_with(world.endpoint["api_token_secret"]) == []


@pytest.mark.parametrize("root", ["~/state", "$HOME/state"])
def test_the_state_directory_may_be_below_the_home(world, root):
    web = world.machine()
    controller = world.controller_named(f"home{web.number}")
    web.play(controller=controller, nixos_vm_state_root=root).succeeded()
    assert (controller.path / "home/state" / web.name / "known_hosts").exists()
    assert not (PROJECT / root.split("/")[0]).exists()
    confirmed = json.dumps({"nixos_vm_confirm_destroy": web.name})
    controller.play([web], "-e", confirmed, playbook="playbooks/destroy.yml", nixos_vm_state_root=root).succeeded()


def test_a_home_that_cannot_be_written_is_not_needed(world):
    """The state root of the inventory is the only place for what is kept."""
    web = world.machine()
    home = {"HOME": "/proc/nonexistent", "ANSIBLE_HOME": str(world.path / "ansible-home"), "STAND_IN_STORE": str(world.path / "store")}
    web.play(environment=home).succeeded()
