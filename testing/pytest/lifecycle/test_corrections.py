"""What the user corrects counts: for a machine that does not come up, for its host keys and for its network."""

import re
import subprocess

import pytest
from simulation.guests import seed_of


STOCK = {"provisioned": 2, "finished": 1}


def test_a_corrected_machine_is_started_again_with_what_was_corrected(world, provisioned, tmp_path):
    """Formerly the new values waited as pending changes for a restart that nobody made."""
    web = provisioned
    image = tmp_path / "corrected.iso"
    image.write_bytes(bytes(32768) + b"\x01CD001\x01" + bytes(65536))
    web.play(nixos_vm_memory=768, nixos_vm_installer_iso=str(image), nixos_vm_config={"machine": "q35"}).succeeded()
    assert web.vm.boots == ["installer", "installer", "installed"]
    assert web.vm.config["memory"] == "768" and web.vm.config["machine"] == "q35"
    assert "[pending]" not in web.vm.file.read_text() and "PENDING" not in web.vm.file.read_text()


def test_an_uncorrected_machine_goes_on_without_another_boot(world, provisioned):
    web, vm = provisioned, provisioned.vm
    vm.stop()
    vm.start()
    vm.await_listening()
    boots = len(vm.boots)
    web.play().succeeded()
    assert vm.boots[boots:] == ["installed"] and vm.disk.formats == 1


def key_pair(path, kind="ed25519"):
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", path], check=True)
    return path.read_text(), path.with_suffix(".pub").read_text().strip()


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_a_host_key_from_the_inventory_is_the_machine_s(world, tmp_path, kind):
    private, public = key_pair(tmp_path / "key", kind)
    web = world.machine(nixos_vm_ssh_host_key={"private": private})
    web.play().succeeded()
    assert private.strip() in [key.strip() for key in web.vm.disk.host_keys]
    assert " ".join(public.split()[:2]) in (web.state() / "known_hosts").read_text()


@pytest.mark.parametrize("how", ["directory", "files", "persist"])
def test_a_host_key_among_the_extra_files_is_not_lost(world, tmp_path, how):
    """It is the machine's, or the run is refused before anything is changed; it is never overwritten silently."""
    private, _ = key_pair(tmp_path / "key")
    path = f"{'persist/' if how == 'persist' else ''}etc/ssh/ssh_host_ed25519_key"
    variables = {"nixos_vm_persist": "/persist"} if how == "persist" else {}
    if how == "files":
        variables["nixos_vm_extra_files"] = [{"path": f"/{path}", "content": private}]
    else:
        file = tmp_path / "tree" / path
        file.parent.mkdir(parents=True)
        file.write_text(private)
        file.chmod(0o600)
        variables["nixos_vm_extra_files_dir"] = str(tmp_path / "tree")
    web = world.machine(**variables)
    play = web.play()
    if play.code != 0:
        play.refused("nixos_vm_extra_files", "nixos_vm_ssh_host_key")
        assert web.vms == []
    else:
        assert web.vm.disk.host_keys == [private]
        assert web.play().succeeded().changed == 0


def test_an_installer_without_name_servers_gets_the_node_s(world):
    """As PVE's own cloud-init drive does; else a static address has no DNS."""
    web = world.machine()
    web.behaves(silence="refuse")
    play = web.play(nixos_vm_boot_timeout=3, nixos_vm_nameservers=...).refused()
    network = seed_of(web.vm, web.vm.config)["network-config"]
    assert re.search(r"nameservers|dns", network) or "nixos_vm_nameservers" in play.output, network


def test_a_finished_machine_converges_what_is_described(world, finished):
    """A pending change is reported; the machine is not restarted for it."""
    web, vm, boots = finished, finished.vm, finished.vm.boots
    play = web.play(nixos_vm_memory=768).succeeded()
    assert play.changed > 0 and vm.boots == boots
    assert "restart" in play.output.lower()
    web.play(nixos_vm_memory=768, nixos_vm_restart="if_needed").succeeded()
    assert vm.config["memory"] == "768" and vm.boots == [*boots, "installed"]
    assert vm.disk.formats == 1
