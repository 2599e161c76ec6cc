"""nixos_deploy with the real Nix on both sides: built, copied, activated, confirmed, undone, and an older generation again.

Needs root, since the controller's store is a real /nix, and nix 2.20 or newer with nix-daemon and nix-env (REAL_NIX: its directory, else
PATH). The machine has a /nix of its own.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from deploy.machine import Machine

from conftest import ansible_module

SETTINGS = "experimental-features = nix-command flakes\nsandbox = false\nbuild-users-group =\nsubstituters =\n"

FLAKE = """{
  outputs = { self }: {
    nixosConfigurations.web1.config.system.build.toplevel = derivation {
      name = "nixos-system-web1-@version@";
      system = builtins.currentSystem or "x86_64-linux";
      builder = "/bin/sh";
      PATH = "/usr/bin:/bin";
      args = [ "-c" ''
        mkdir -p $out/bin $out/etc
        echo web1 >$out/etc/hostname
        for part in kernel initrd kernel-modules; do touch $out/$part; done
        cat >$out/bin/switch-to-configuration <<END
        #!/bin/sh
        echo "\\$1 @version@" >>"\\$LAB/done"
        [ "\\$1" != test ] || ln -sfn $out /run/current-system
        @hook@
        END
        chmod +x $out/bin/switch-to-configuration
      '' ];
    };
  };
}
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    if os.geteuid() != 0:
        pytest.skip("NOT RUN: a store at /nix needs root")
    monkeypatch.setenv("PATH", os.pathsep.join(filter(None, [os.environ.get("REAL_NIX"), os.environ["PATH"]])))
    for program in ("nix", "nix-env", "nix-daemon"):
        if not shutil.which(program):
            pytest.skip(f"NOT RUN: there is no {program}")
    said = subprocess.run(["nix", "--version"], capture_output=True, text=True, check=False).stdout
    if tuple(map(int, re.findall(r"\d+", said)[:2])) < (2, 20):
        pytest.skip(f"NOT RUN: {said.strip()!r}, and 2.20 or newer is needed")
    print(said)
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/nix.conf").write_text(SETTINGS)
    monkeypatch.setenv("NIX_CONF_DIR", str(tmp_path / "conf"))
    monkeypatch.setenv("LAB", str(tmp_path / "lab"))
    (tmp_path / "lab").mkdir()
    machine = Machine(tmp_path / "lab")
    for name in ("nix", "nix-env"):
        (machine.path / "tools" / name).unlink()
    yield machine
    machine.stop()


def change(machine, version, hook=":"):
    flake = machine.path / "flake-1"
    flake.mkdir(exist_ok=True)
    (flake / "flake.nix").write_text(FLAKE.replace("@version@", version).replace("@hook@", hook))
    return f"path:{flake}#web1"


def deploy(machine, **options):
    options = machine.options(**options)
    del options["tools_path"]
    return ansible_module("nixos_deploy", {key: value for key, value in options.items() if value is not ...}, ["--diff"])


def name(link):
    return os.readlink(link).split("-", 1)[1].removeprefix("nixos-system-web1-")


def test_a_system_is_built_copied_confirmed_and_undone(machine):
    first = deploy(machine, flake=change(machine, "1"))
    assert first.outcome == "CHANGED", first.output
    assert name(machine.path / "run/current-system") == "1"
    # It is in the machine's own store, with its closure.
    path = first.data["system"]
    assert (machine.path / "nix/store" / Path(path).name / "bin/switch-to-configuration").exists()
    assert deploy(machine, flake=change(machine, "1")).outcome == "SUCCESS"

    undone = deploy(machine, flake=change(machine, "2", hook='[ "\\$1" != test ] || exit 2'))
    assert undone.failed and undone.data["error"]["kind"] == "rolled_back", undone.output
    assert name(machine.path / "run/current-system") == "1"

    third = deploy(machine, flake=change(machine, "3"))
    assert third.outcome == "CHANGED" and third.data["generation"] == 3, third.output
    assert [package["after"] for package in third.data["packages"] if package["name"] == "nixos-system-web1"] == [["3"]]
    back = deploy(machine, flake=..., generation="previous")
    assert back.outcome == "CHANGED" and back.data["generation"] == 2, back.output
    assert name(machine.path / "run/current-system") == "1"
    assert machine.left_behind() == []
