"""The play in ansible-runner, the engine of AWX: from a directory of a job's own, in slices that run at once."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from simulation.world import PROJECT, Play


class Job:
    """A job of AWX: its project, inventory, environment and what is kept of its run are below one directory."""

    def __init__(self, path, world, machines, play):
        self.path = path
        self.controller = world.controller_named(path.name)
        project = path / "project"
        shutil.copytree(PROJECT / "roles", project / "roles", ignore=shutil.ignore_patterns("library"))
        (project / "roles/nixos_vm/library").symlink_to(PROJECT / "library")
        (project / "site.yml").write_text(yaml.safe_dump([{"hosts": "nixos_vms", "gather_facts": False, "roles": ["nixos_vm"], **play}]))
        (path / "inventory").symlink_to(self.controller.inventory(machines))
        # The role comes with the project, and nothing else of the checkout is found.
        self.environment = self.controller.environment()
        del self.environment["ANSIBLE_CONFIG"]

    def start(self, run):
        command = [Path(sys.executable).with_name("ansible-runner"), "run", self.path, "--playbook", "site.yml", "--ident", run]
        return subprocess.Popen(
            command, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def artifacts(self, run):
        return self.path / "artifacts" / run


def run_at_once(jobs, run):
    """The plays of all jobs, as ansible-runner kept them."""
    processes = [job.start(run) for job in jobs]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    plays = []
    for job, process, output in zip(jobs, processes, outputs, strict=True):
        kept = job.artifacts(run)
        assert (kept / "rc").read_text() == str(process.returncode), output
        plays.append(Play(process.returncode, (kept / "stdout").read_text(), 0).succeeded())
    return plays


@pytest.fixture
def sliced(world, tmp_path):
    """Four machines in two slices, as AWX would cut them, of which one runs freely and one host after host."""
    machines = [world.machine() for _ in range(4)]
    free, serial = tmp_path / "free", tmp_path / "serial"
    return machines, [
        Job(free, world, machines[::2], {"strategy": "ansible.builtin.free"}),
        Job(serial, world, machines[1::2], {"serial": 1}),
    ]


def test_two_slices_of_a_job_make_their_machines_at_once(world, sliced):
    machines, jobs = sliced
    run_at_once(jobs, "first")
    for machine in machines:
        assert machine.vm.record["phase"] == "done" and machine.vm.disk.formats == 1, machine.name
    again = run_at_once(jobs, "second")
    assert [play.changed for play in again] == [0, 0]
    secrets = [world.endpoint["api_token_secret"], world.endpoint["api_password"], "PRIVATE KEY"]
    for job in jobs:
        kept = [path for path in job.path.joinpath("artifacts").rglob("*") if path.is_file()]
        assert any(path.parent.name == "job_events" for path in kept)
        for path in kept:
            assert not any(secret in path.read_text() for secret in secrets), path
