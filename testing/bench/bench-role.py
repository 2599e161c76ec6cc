"""What the role costs: for finished machines, and beyond the guests' own time for new ones. Called by bench-role.sh."""

import os
import pathlib
import resource
import secrets
import sys
import tempfile
import time
import uuid

import results
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "testing/pytest"))

from simulation import World  # noqa: E402
from simulation.guests import BOOT_SECONDS  # noqa: E402

FORKS = 50
FINISHED = [int(number) for number in os.environ.get("BENCH_HOSTS", "50 200").split()]
PEER = os.environ.get("BENCH_PEER", "1") == "1"
NEW = [int(number) for number in os.environ.get("BENCH_MACHINES", "1 5").split()]
# A machine boots its installer, and its system.
BOOTS = 2 * BOOT_SECONDS
RECORD = (
    "<!-- nixos-proxmox: v=1 installation={installation} host={name} vmid={vmid} uuid={uuid} generation={generation}"
    " phase=done run={run} disk={disk} installer=none -->"
)


def cpu():
    """Seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measured(run, may_fail=False):
    """A play with its wall and CPU seconds."""
    before, since = cpu(), time.monotonic()
    play = run()
    seconds, used = time.monotonic() - since, cpu() - before
    if play.code != 0 and not may_fail:
        sys.exit(f"bench: {play.output[-3000:]}")
    return play, seconds, used


def finished_vm(world, machine):
    """A VM as the role leaves it, with its record."""
    vm = world.create(machine.name, smbios1=f"uuid={uuid.uuid4()}", vmgenid=str(uuid.uuid4()))
    record = RECORD.format(
        installation=secrets.token_hex(16),
        name=machine.name,
        vmid=vm.vmid,
        uuid=vm.config["smbios1"].removeprefix("uuid="),
        generation=vm.config["vmgenid"],
        run=secrets.token_hex(4),
        disk=vm.config["scsi0"].split(",")[0],
    )
    vm.set(description=record)


def one_task(folder, module, options):
    """A play with one module task a host."""
    task = {"name": "The VM", "delegate_to": "localhost", module: {**options, "name": "{{ inventory_hostname }}", "state": "current"}}
    file = folder / f"{module}.yml"
    file.write_text(yaml.safe_dump([{"hosts": "nixos_vms", "gather_facts": False, "tasks": [task]}]))
    return str(file)


def peer_play(world, folder):
    """The same play with community.proxmox, under the same ansible-core."""
    options = {key: value for key, value in world.connection.items() if key != "tls_fingerprint"}
    playbook = one_task(folder, "community.proxmox.proxmox_kvm", options | {"node": world.node, "validate_certs": False})
    environment = {"ANSIBLE_COLLECTIONS_PATH": str(results.peer_collections()), "PYTHONWARNINGS": "ignore"}
    # The implicit localhost has an interpreter of its own, which only an extra variable overrides.
    return ["-e", f"ansible_python_interpreter={results.PEER / 'bin/python'}"], {"playbook": playbook, "environment": environment}


def finished(count):
    """The role on `count` finished machines, against one task for each of them."""
    with tempfile.TemporaryDirectory(prefix="bench-role.") as name:
        folder = pathlib.Path(name)
        world = World(folder / "world")
        try:
            machines = [world.machine("web") for _ in range(count)]
            for machine in machines:
                finished_vm(world, machine)
            world.controller.environment = environment_of(world.controller)
            inventory = world.controller.inventory(machines, nixos_vm_state="stopped")

            def play(*flags, **more):
                return world.controller.run(inventory, "-f", str(FORKS), *flags, timeout=3600, **more)

            # What the role's description of the VMs changes in them.
            measured(play)
            time.sleep(11)  # pvestatd's round: the peer finds a VM by its name in the list of the cluster
            case = f"{count} finished machines"
            if PEER:
                flags, more = peer_play(world, folder)
                row(case, "one task of proxmox_kvm", count, *measured(lambda: play(*flags, **more), may_fail=True))
            ours = one_task(folder, "proxmox_nixos_vm", world.connection | {"node": world.node})
            task, wall, used = measured(lambda: play(playbook=ours))
            row(case, "one task of proxmox_nixos_vm", count, task, wall, used)
            role, role_wall, role_used = measured(play)
            row(case, "the role", count, role, role_wall, role_used)
            print(f"the role takes {role_used / used:.1f} times the CPU and {role_wall / wall:.1f} times the wall time\n", flush=True)
        finally:
            world.end()


def six_steps(count):
    """The six steps for `count` new machines at once."""
    with tempfile.TemporaryDirectory(prefix="bench-role.") as name:
        world = World(pathlib.Path(name) / "world")
        try:
            machines = [world.machine("web") for _ in range(count)]
            world.controller.environment = environment_of(world.controller)
            inventory = world.controller.inventory(machines)
            play, wall, used = measured(lambda: world.controller.run(inventory, "-f", str(FORKS), timeout=3600))
            row(f"{count} new machines", "the six steps", count, play, wall, used, overhead=wall - BOOTS)
            print(f"without the boots: {wall - BOOTS:.1f} s\n", flush=True)
        finally:
            world.end()


def environment_of(controller):
    """As users have it: the progress callback is on."""
    environment = controller.environment

    def with_progress(**more):
        return {key: value for key, value in environment(**more).items() if key != "NIXOS_VM_PROGRESS"}

    return with_progress


def row(case, process, count, play, wall, used, **more):
    recaps = play.recap.values()
    tasks = sum(recap.ok + recap.skipped for recap in recaps) / count
    failed = sum(recap.failed for recap in recaps)
    print(f"{case}, {process}: wall {wall:.1f} s, CPU {used:.1f} s, tasks a host {tasks:.0f}, changed {play.changed}, failed {failed}", flush=True)
    if failed:
        print(play.message.splitlines()[0], file=sys.stderr)
    results.add("role", case, process, wall=wall, cpu=used, tasks=tasks, failed=failed, **more)


def main():
    results.header()
    for count in FINISHED:
        finished(count)
    for count in NEW:
        six_steps(count)


if __name__ == "__main__":
    main()
