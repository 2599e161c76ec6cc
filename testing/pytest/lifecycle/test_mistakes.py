"""Whatever can be known beforehand is said before anything is changed, all of it together, in the user's own words."""

import os
import subprocess

import pytest


@pytest.fixture(scope="module")
def mistakes(site, tmp_path_factory):
    """Variables of a host, and what the refusal has to name."""
    files = tmp_path_factory.mktemp("files")
    kept = files / "controller/etc-ssh"
    kept.mkdir(parents=True)
    (kept / "ssh_host_ed25519_key").write_text("the controller's own key")
    (files / "linked/etc").mkdir(parents=True)
    os.symlink(kept, files / "linked/etc/ssh")
    (files / "broken.pub").write_text("no key\n")
    (files / "no-tools").mkdir()
    flake = site.variables()["nixos_vm_flake"]
    return {
        "misspelt": ({"nixos_vm_memmory": 2048}, ["nixos_vm_memmory", "nixos_vm_memory"]),
        "misspelt-too": ({"nixos_vm_autorized_keys": []}, ["nixos_vm_autorized_keys", "nixos_vm_authorized_keys"]),
        "file-missing": ({"nixos_vm_extra_files": [{"path": "/a", "src": str(files / "missing")}]}, ["nixos_vm_extra_files", str(files / "missing")]),
        "file-mode": ({"nixos_vm_extra_files": [{"path": "/a", "content": "x", "mode": "rw-r--r--"}]}, ["nixos_vm_extra_files", "mode"]),
        "file-path": ({"nixos_vm_extra_files": [{"path": "/etc/../../x", "content": "x"}]}, ["nixos_vm_extra_files", ".."]),
        "directory-missing": ({"nixos_vm_extra_files_dir": str(files / "nowhere")}, ["nixos_vm_extra_files_dir", str(files / "nowhere")]),
        "disk-key-missing": (
            {"nixos_vm_disk_encryption_keys": [{"remote": "/tmp/disk.key", "local": str(files / "no.key")}]},
            ["nixos_vm_disk_encryption_keys", str(files / "no.key")],
        ),
        "flake-missing": ({"nixos_vm_flake": "/nonexistent#web"}, ["nixos_vm_flake", "/nonexistent"]),
        "flake-unset": ({"nixos_vm_flake": ""}, ["nixos_vm_flake"]),
        "login-key-missing": ({"ansible_ssh_private_key_file": str(files / "no.key")}, [str(files / "no.key")]),
        "bridge": ({"nixos_vm_net": {"net0": "virtio,bridge=vmbr9"}}, ["nixos_vm_net", "vmbr9"]),
        "storage": ({"nixos_vm_disks_storage": "nowhere"}, ["nixos_vm_disks_storage", "nowhere"]),
        "iso-storage": ({"nixos_vm_iso_storage": "noiso"}, ["noiso"]),
        "image-missing": ({"nixos_vm_installer_iso": str(files / "no.iso")}, [str(files / "no.iso")]),
        "node": ({"nixos_vm_node": "pve99"}, ["pve99"]),
        "address": ({"nixos_vm_ip": "10.0.0.300/24"}, ["nixos_vm_ip", "10.0.0.300"]),
        "gateway": ({"nixos_vm_gateway": "here"}, ["nixos_vm_gateway"]),
        "memory": ({"nixos_vm_memory": 8}, ["nixos_vm_memory"]),
        "state-root": ({"nixos_vm_state_root": "state"}, ["nixos_vm_state_root", "absolute"]),
        "further": ({"nixos_vm_vm_options": {"force": True}}, ["nixos_vm_vm_options.force"]),
        "tools": ({"nixos_vm_tools_path": str(files / "no-tools")}, ["nix"]),
        "privileges": (
            {f"nixos_vm_{key}": value for key, value in site.endpoint["empty"].items()},
            [],
        ),
    }


@pytest.mark.parametrize("flags", [(), ("--check",)], ids=["run", "check"])
def test_nothing_is_changed_for_what_cannot_work(world, mistakes, flags):
    hosts = {}
    for name, (variables, _) in mistakes.items():
        hosts[name] = world.machine(f"{name}-", **variables)
    with world.unchanged():
        play = world.controller.play(list(hosts.values()), *flags)
    missed = {}
    for name, (_, parts) in mistakes.items():
        message = " ".join(play.failures.get(hosts[name].name, []))
        if not message or any(part.lower() not in message.lower() for part in parts):
            missed[name] = message or "no failure"
    assert not missed, "\n".join(f"{name}: {message[:300]}" for name, message in missed.items())
    assert world.vms() == []


def test_files_of_the_controller_are_not_reached_through_a_link(world, mistakes, tmp_path):
    """extra_files_dir has etc/ssh as a link, absolute or upwards: the host keys must not be written through it."""
    for number, target in enumerate((str(tmp_path / "kept"), "../../kept")):
        kept = tmp_path / "kept"
        kept.mkdir(exist_ok=True)
        (kept / "ssh_host_ed25519_key").write_text("the controller's own key")
        tree = tmp_path / f"tree{number}"
        (tree / "etc").mkdir(parents=True)
        os.symlink(target, tree / "etc/ssh")
        web = world.machine(nixos_vm_extra_files_dir=str(tree))
        play = web.play()
        assert [path.name for path in kept.iterdir()] == ["ssh_host_ed25519_key"], play.output
        assert (kept / "ssh_host_ed25519_key").read_text() == "the controller's own key"


@pytest.mark.parametrize("link", ["etc/ssh", "etc/ssh/ssh_host_ed25519_key"])
def test_a_host_key_behind_a_link_is_not_the_machine_s(world, tmp_path, link):
    """The link is meant for the installed system. On the controller it may lead to the controller's own key, which stays there."""
    own = tmp_path / "controller/etc/ssh"
    own.mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", own / "ssh_host_ed25519_key"], check=True)
    at = tmp_path / "tree" / link
    at.parent.mkdir(parents=True)
    at.symlink_to(tmp_path / "controller" / link)
    web = world.machine(nixos_vm_extra_files_dir=str(tmp_path / "tree"))
    with world.unchanged():
        web.play().refused("nixos_vm_extra_files_dir", str(at), "nixos_vm_persist")
    private = (own / "ssh_host_ed25519_key").read_text()
    assert [path for path in web.state().rglob("*") if path.is_file() and path.read_text() == private] == []


def test_all_mistakes_of_a_host_are_told_at_once(world):
    web = world.machine(nixos_vm_memmory=1, nixos_vm_ip="nowhere", nixos_vm_gateway="here", nixos_vm_flake="/nonexistent#web", nixos_vm_seed_drive="floppy")
    with world.unchanged():
        web.play().refused("nixos_vm_memmory", "nixos_vm_ip", "nixos_vm_gateway", "nixos_vm_flake", "nixos_vm_seed_drive")


def test_a_host_key_that_does_not_match_is_told_in_the_variable_s_name(world):
    web = world.machine(nixos_vm_tls_fingerprint=":".join(["00"] * 32))
    web.play().refused("nixos_vm_tls_fingerprint")


def test_a_flake_that_does_not_evaluate_is_found_before_the_machine_is_made(world):
    web = world.machine()
    flake = world.variables()["nixos_vm_flake"].split("#")[0]
    play = web.play(nixos_vm_flake=f"{flake}/nonexistent#web").refused("nixos_vm_flake")
    assert web.vms == [], play.output
