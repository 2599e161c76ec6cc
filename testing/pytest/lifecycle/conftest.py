"""One simulated site for each file of tests, on which every test has hosts of its own.

Most tests begin with a machine that has come some way. A file says in `STOCK` how many of each kind its
tests need, and one play makes them all; the fixtures of the kinds' names hand them out.
"""

import json
import shutil
import subprocess
import threading

import pytest
from simulation import World
from simulation.world import PROJECT


@pytest.fixture(scope="module")
def site(tmp_path_factory, request):
    """A site of one node, or of the nodes in `NODES` of the file."""
    site = World(tmp_path_factory.mktemp("world") / "site", nodes=getattr(request.module, "NODES", ()))
    yield site
    site.end()


@pytest.fixture
def world(site):
    """The site; after the test no disk may be lost that was in use, and every command of a guest must be known."""
    losses = len(site.losses)
    yield site
    site.faults()
    assert site.losses[losses:] == []
    assert site.guests.unknown == []


def login_by_key(machine, known_hosts):
    """Log in as users do, strictly."""
    command = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", f"UserKnownHostsFile={known_hosts}"]
    command += ["-o", "GlobalKnownHostsFile=/dev/null", "-i", machine.world.login_key, "-p", str(machine.world.ssh_port)]
    return subprocess.run([*command, f"root@{machine.address}", "true"], capture_output=True, text=True, timeout=60, check=False)


def token_without(world, *privileges):
    """The variables of a token that may do all that the role needs, but for these; from now on no token of its role may."""
    file = world.pve / "access.json"
    access = json.loads(file.read_text())
    access["roles"]["Provisioner"] = [name for name in access["roles"]["Provisioner"] if name not in privileges]
    new = file.with_suffix(".new")
    new.write_text(json.dumps(access))
    new.rename(file)
    return {f"nixos_vm_{key}": value for key, value in world.endpoint["provisioner"].items()}


class Stock:
    def __init__(self, site, wanted):
        self.site = site
        self.made = {kind: [site.machine(kind.replace("_", "-")) for _ in range(number)] for kind, number in wanted.items()}
        self.plays = []
        self.make([machine for kind, machines in self.made.items() if kind != "cut_off" for machine in machines])
        self.cut_off(self.made.get("cut_off", []))

    def make(self, machines):
        if not machines:
            return
        for machine in self.made.get("half_written", []):
            machine.behaves(fails=("install",))
        for machine in self.made.get("provisioned", []):
            machine.behaves(silence="refuse")
            machine.variables["nixos_vm_boot_timeout"] = 5
        self.plays.append(self.site.controller.play(machines))
        for machine in machines:
            machine.behaves()
            machine.variables.pop("nixos_vm_boot_timeout", None)

    def cut_off(self, machines):
        """The quorum is lost when nixos-anywhere has ended well on all of them."""
        if not machines:
            return
        ended = threading.Barrier(len(machines), action=self.site.lose_quorum)
        for machine in machines:
            machine.behaves(before={"install": lambda: ended.wait(120)})
        self.plays.append(self.site.controller.play(machines))
        self.site.faults()
        for machine in machines:
            machine.behaves()

    def take(self, kind, phase):
        machine = self.made[kind].pop()
        outputs = "\n".join(play.output for play in self.plays)
        assert machine.vms and machine.vm.record.get("phase") == phase, f"{machine.name}: {machine.vms and machine.vm.text}\n{outputs}"
        return machine


@pytest.fixture(scope="module")
def stock(site, request):
    return Stock(site, getattr(request.module, "STOCK", {}))


@pytest.fixture
def finished(stock):
    """An installed and verified machine."""
    return stock.take("finished", "done")


@pytest.fixture
def provisioned(stock):
    """Its run ended because the installer, which boots, could not be reached."""
    return stock.take("provisioned", "provisioning")


@pytest.fixture
def half_written(stock):
    """Its disk was formatted, and the installation failed then. The installer runs."""
    return stock.take("half_written", "installing")


@pytest.fixture
def cut_off(stock):
    """Its nixos-anywhere ended well just as the cluster lost its quorum: no note of it could be made. The installer runs."""
    machine = stock.take("cut_off", "installing")
    assert machine.vm.disk.formats == 1 and machine.vm.disk.system and machine.vm.boots == ["installer"]
    return machine


@pytest.fixture
def flake(tmp_path):
    """A flake whose system a test can change."""
    shutil.copytree(PROJECT / "testing/demo/flake", tmp_path / "flake")

    def change(version):
        (tmp_path / "flake/stand-in.json").write_text(json.dumps({"*": {"version": version}}))

    change(1)
    change.uri = f"{tmp_path}/flake#web"
    return change
