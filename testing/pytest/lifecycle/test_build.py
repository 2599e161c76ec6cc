"""The build beside the play: it goes on while the machine boots, is waited for, and its end decides what happens."""

import json
import os
import sys

import pytest
from simulation.world import TOOLS

# Takes the place of nix: notes every build, and does before it what the test says.
NIX = """#!{python}
import os, pathlib, sys, time
folder = pathlib.Path({folder!r})
if "build" in sys.argv[1:]:
    with (folder / "builds").open("a") as file:
        file.write(sys.argv[-1] + "\\n")
    exec((folder / "before").read_text())
os.execv({nix!r}, ["nix", *sys.argv[1:]])
"""


class Nix:
    """A program in the place of nix."""

    def __init__(self, folder):
        self.folder = folder
        for tool in TOOLS.iterdir():
            if tool.name != "nix":
                (folder / tool.name).symlink_to(tool.resolve())
        nix = folder / "nix"
        nix.write_text(NIX.format(python=sys.executable, folder=str(folder), nix=str((TOOLS / "nix").resolve())))
        nix.chmod(0o755)
        self.before("pass")

    def before(self, code):
        """Run this Python code before every build."""
        (self.folder / "before").write_text(code)

    @property
    def builds(self):
        file = self.folder / "builds"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def nix(tmp_path):
    return Nix(tmp_path)


def test_the_machine_boots_while_its_system_is_built_once(world, nix):
    nix.before("while not (folder / 'go-on').exists(): time.sleep(0.05)")
    web = world.machine()
    progress = nix.folder / "progress"
    progress.mkdir()
    environment = {"NIXOS_VM_PROGRESS_DIR": str(progress)}
    with world.controller.playing([web], environment=environment, nixos_vm_tools_path=str(nix.folder)) as play:
        world.wait_until(lambda: play.poll() is not None or (web.vms and web.vm.boots), "the installer to boot")
        # The installation waits, and says for what: the first lines are the build's own.
        world.wait_until(lambda: play.poll() is not None or "Building" in events(progress / web.name), "the build to be shown")
        assert play.poll() is None, play.log.read_text()
        assert web.vm.disk.formats == 0
        (nix.folder / "go-on").touch()
        assert play.wait(120) == 0, play.log.read_text()
    assert len(nix.builds) == len(set(nix.builds)), nix.builds
    assert web.vm.record["phase"] == "done"
    assert not list(world.controller.state.rglob("builds"))


def events(path):
    return path.read_text() if path.exists() else ""


def test_a_build_that_fails_stops_the_play_before_the_boot(world, nix):
    nix.before("sys.exit('error: undefined variable pkgz')")
    web = world.machine()
    # The build has failed by the time the VM is made.
    world.faults({"method": "POST", "path": "/nodes/*/qemu", "action": "delay", "seconds": 3})
    web.play(nixos_vm_tools_path=str(nix.folder)).refused("undefined variable pkgz")
    assert web.vm.boots == []
    world.faults()
    nix.before("pass")
    web.play(nixos_vm_tools_path=str(nix.folder)).succeeded()
    assert web.vm.record["phase"] == "done"


def test_a_build_that_is_killed_is_done_by_the_installation(world, nix):
    nix.before("""
if len((folder / "builds").read_text().splitlines()) == 1:
    os.kill(os.getppid(), 9)
    sys.exit(1)
""")
    web = world.machine()
    web.play(nixos_vm_tools_path=str(nix.folder)).succeeded()
    assert nix.builds[0] in nix.builds[1:]
    assert web.vm.record["phase"] == "done"


def test_a_build_outlives_its_play_and_shows_nobody_its_options(world, nix):
    """The next run builds by itself; what is left of the first one is removed in the end."""
    nix.before("while not (folder / 'go-on').exists(): time.sleep(0.05)")
    web = world.machine()
    with world.controller.playing([web], nixos_vm_tools_path=str(nix.folder)) as play:
        world.wait_until(lambda: play.poll() is not None or nix.builds, "the build to begin")
        assert play.poll() is None, play.log.read_text()
        assert len(builders(world.controller)) == 1
    (nix.folder / "go-on").touch()
    world.wait_until(lambda: not builders(world.controller), "the build to end")
    results = list(world.controller.state.rglob("builds/*.json"))
    assert [result.stat().st_mode & 0o777 for result in results] == [0o600]
    assert json.loads(results[0].read_text())["store_paths"]
    web.play(nixos_vm_tools_path=str(nix.folder)).succeeded()
    assert not list(world.controller.state.rglob("builds"))


def builders(controller):
    """The command lines of this controller's builds beside a play."""
    found = []
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline") as command, open(f"/proc/{entry}/environ") as environment:
                words = command.read()
                if words == "nixos_vm_lifecycle\0/dev/stdin\0build\0" and str(controller.path) in environment.read():
                    found.append(words)
        except OSError:
            continue
    return found
