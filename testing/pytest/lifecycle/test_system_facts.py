"""What the inventory knows of a machine becomes a part of its system: through the role's wrapper, or a file of the flake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from simulation.world import TOOLS

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP0aXtr0WcmDZcv6nmWLnNTqPFMG5YGV6kJz6JuU3kCa me"
# Notes what it is called with, and goes on as the stand-in.
NIX = """#!{python}
import json, os, sys
with open({log!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
os.execv({nix!r}, ["nix", *sys.argv[1:]])
"""


@pytest.fixture
def calls(tmp_path):
    """A directory for nixos_vm_tools_path, and what its nix was called with."""
    for tool in TOOLS.iterdir():
        if tool.name != "nix":
            (tmp_path / tool.name).symlink_to(tool.resolve())
    log, nix = tmp_path / "calls.log", tmp_path / "nix"
    nix.write_text(NIX.format(python=sys.executable, log=str(log), nix=str((TOOLS / "nix").resolve())))
    nix.chmod(0o755)

    def read(command):
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line[0] == command]

    return read


def installed(web):
    """The directory of the installation, and the system that was installed."""
    (closure,) = web.state().glob("*/closure")
    return closure.parent, Path(closure.read_text().strip())


def test_the_build_gets_the_facts_through_a_wrapper(world, calls, tmp_path):
    web = world.machine(nixos_vm_system_facts="wrapper", nixos_vm_authorized_keys=[KEY], nixos_vm_tools_path=str(tmp_path))
    web.play().succeeded()
    directory, system = installed(web)
    facts = json.loads((directory / "facts/facts.json").read_text())
    assert f"{facts['address']}/{facts['prefixLength']}" == web.host_variables["nixos_vm_ip"]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (directory / "facts", *(directory / "facts").iterdir()))
    assert facts["hostName"] == web.name and facts["authorizedKeys"] == [KEY]
    assert (system / "etc/hostname").read_text() == f"{web.name}\n"
    assert (system / "etc/ssh/authorized_keys.d/root").read_text() == f"{KEY}\n"

    uri, name = world.variables()["nixos_vm_flake"].split("#")
    (build,) = calls("build")
    assert [word for word in build if "#" in word] == [
        f"path:{directory}/facts#nixosConfigurations.{name}.config.system.build.{attribute}" for attribute in ("toplevel", "diskoScript")
    ]
    for call in (build, *calls("path-info")[:1]):
        assert call[call.index("--override-input") + 1:][:2] == ["machines", uri]
        assert "--no-write-lock-file" in call and "--impure" not in call
    # The evaluation before it left nothing behind.
    assert not list((world.controller.path / "tmp").iterdir())

    # What the machine is told only when it is installed changes nothing afterwards.
    builds = len(calls("build"))
    for more in ({}, {"nixos_vm_nameservers": ["192.0.2.53"]}, {"nixos_vm_system_facts": "none"}):
        assert web.play(**more).succeeded().changed == 0, more
    assert len(calls("build")) == builds


def test_facts_are_written_to_a_file_of_the_flake(world, tmp_path):
    file = tmp_path / "facts/web.json"
    web = world.machine(nixos_vm_system_facts="file", nixos_vm_system_facts_file=str(file), nixos_vm_vmid=7300)
    play = web.play("--check").succeeded()
    assert not file.exists() and "check mode does not write it" in play.output
    web.play().succeeded()
    text = file.read_text()
    facts = json.loads(text)
    assert f"{facts['address']}/{facts['prefixLength']}" == web.host_variables["nixos_vm_ip"] and facts["vmid"] == 7300
    assert not list(web.state().glob("*/facts"))
    # It is the flake's: a finished machine does not follow it, and so it does not follow the inventory.
    assert web.play(nixos_vm_nameservers=["192.0.2.53"]).succeeded().changed == 0
    assert file.read_text() == text


def test_a_file_that_nix_would_not_see_is_refused(world, tmp_path):
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    file = tmp_path / "web.json"
    web = world.machine(nixos_vm_system_facts="file", nixos_vm_system_facts_file=str(file))
    web.play().refused("nixos_vm_system_facts_file", f"git -C {tmp_path} add --intent-to-add web.json")
    assert not web.vms
    subprocess.run(["git", "-C", tmp_path, "add", "--intent-to-add", "web.json"], check=True)
    web.play().succeeded()


@pytest.mark.parametrize(
    "variables, parts",
    [
        ({"nixos_vm_system_facts": "wrapper", "nixos_vm_build_on": "remote"}, ["nixos_vm_system_facts: wrapper requires", "nixos_vm_build_on: local"]),
        ({"nixos_vm_system_facts": "file"}, ["nixos_vm_system_facts_file: is required"]),
        ({"nixos_vm_system_facts": "file", "nixos_vm_system_facts_file": "facts/web.json"}, ["nixos_vm_system_facts_file: must be an absolute path"]),
        (
            {"nixos_vm_system_facts": "wrapper", "nixos_vm_net": {"net0": "virtio,bridge=vmbr0", "net1": "virtio,bridge=vmbr0"}},
            ["nixos_vm_net.net0: needs a MAC address"],
        ),
        ({"nixos_vm_install_options": {"override_inputs": {"a": "/b"}}}, ["nixos_vm_install_options.override_inputs: is decided by the role"]),
    ],
    ids=["remote", "no-file", "relative", "nics", "inputs"],
)
def test_what_cannot_be_right_is_refused_by_its_variable(world, variables, parts):
    web = world.machine(**variables)
    web.play().refused(*parts)
    assert not web.vms
