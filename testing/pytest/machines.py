"""Machines for the tests: an inventory, a test host and the play that users run; and ways to cut it off."""

import contextlib
import copy
import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote

from conftest import PROJECT, end_lab, environment, start_lab

MODULES = ("nixos_vm_lifecycle", "proxmox_iso", "proxmox_nixos_vm", "cloudinit_drive", "nixos_anywhere_install", "proxmox_snapshot", "nixos_deploy")

# Variables of the host: those of the group would yield to the demo's group_vars.
HOST = """
nixos_vms:
  hosts:
    {name}:
      ansible_host: 127.77.0.{number}
      nixos_vm_ip: 10.77.0.{number}/24
      ansible_port: 2222
      nixos_vm_tools_path: {tools}
      nixos_vm_flake: "{project}/testing/demo/flake#{name}"
      nixos_vm_memory: {memory}
      nixos_vm_install_memory: {install_memory}
"""

# Writes down every run of the program in whose name it stands, and how it ended.
COUNTING = """#!/usr/bin/env bash
echo "$* begins" >>{runs}
{program} "$@" || {{ code=$?; echo "ended with $code" >>{runs}; exit $code; }}
echo "ended with 0" >>{runs}
"""


class Machine:
    """One machine on a test host of its own.

    Whatever the play makes on the controller is below `lab.path`: temporary files in `tmp`, what it
    keeps in `home`; what Ansible itself leaves when it is killed in `ansible`.
    """

    def __init__(self, path, image, name, number, memory=384, install_memory=512, more=""):
        self.lab = start_lab(path / "lab", image)
        self.name = name
        self.number = number
        self.address = f"127.77.0.{number}"
        self.port = 2222
        self.state = self.lab.path / "state" / name
        for directory in ("tmp", "home", "ansible", "tools"):
            (self.lab.path / directory).mkdir()
        self.runs = self.lab.path / "runs"
        self.plays = 0
        (self.lab.path / "tools/nix").symlink_to(PROJECT / "testing/stand-in/nix")
        tool = self.lab.path / "tools/nixos-anywhere"
        tool.write_text(COUNTING.format(runs=self.runs, program=PROJECT / "testing/stand-in/nixos-anywhere"))
        tool.chmod(0o755)
        self.inventory = path / "inventory"
        self.inventory.mkdir()
        (self.inventory / "group_vars").symlink_to(PROJECT / "testing/demo/inventory/group_vars")
        (self.inventory / "hosts.yml").write_text(
            HOST.format(
                name=name, number=number, project=PROJECT, memory=memory, install_memory=install_memory, tools=self.lab.path / "tools"
            )
            + more
        )

    def end(self):
        end_lab(self.lab)

    # --- the play ---------------------------------------------------------------------------------

    def command(self, *flags, playbook="provision.yml"):
        return ["ansible-playbook", playbook, "-i", str(self.inventory), *flags]

    def environment(self, **more):
        lab = self.lab.path
        own = {"HOME": "home", "TMPDIR": "tmp", "ANSIBLE_LOCAL_TEMP": "ansible/local", "ANSIBLE_REMOTE_TEMP": "ansible/remote"}
        return environment(
            # Not in /tmp, which a guest empties when it boots: systems are at the same path there.
            STAND_IN_STORE=str(PROJECT / ".cache/stand-in-store"),
            NIXOS_PROXMOX_DEMO_DIR=str(lab), XDG_RUNTIME_DIR="", **{name: str(lab / value) for name, value in own.items()}, **more
        )

    def play(self, *flags, playbook="provision.yml"):
        """Run it to its end: the output, and how many tasks changed something or failed."""
        done = subprocess.run(
            self.command(*flags, playbook=playbook),
            cwd=PROJECT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
            check=False,
        )
        recap = re.search(rf"^{self.name} +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", done.stdout, re.M)
        assert recap, done.stdout
        return done.stdout, int(recap[2]), int(recap[3]) + int(recap[4])

    def succeed(self, *flags, playbook="provision.yml"):
        output, changed, failed = self.play(*flags, playbook=playbook)
        assert failed == 0, output
        return changed

    def destroy(self):
        self.succeed("-e", f"nixos_vm_confirm_destroy={self.name}", playbook="playbooks/destroy.yml")

    @contextlib.contextmanager
    def playing(self, *flags):
        """The play while it runs. It is over afterwards, with all of its processes."""
        self.plays += 1
        log = self.lab.path / f"play{self.plays}.log"
        with log.open("w") as file:
            play = subprocess.Popen(
                self.command(*flags), cwd=PROJECT, env=self.environment(), stdout=file, stderr=file, start_new_session=True
            )
        play.log = log
        try:
            yield play
            wait_until(lambda: play.poll() is not None, "the play to end", 600)
        finally:
            if play.poll() is None:
                play.kill()
            play.wait()
        wait_until(lambda: not self.processes(), lambda: f"the processes of the play to end: {self.processes()}", 90)

    def processes(self):
        """What runs for the play, below Ansible itself too: (pid, command line)."""
        return [
            (pid, command)
            for pid, command in processes()
            if str(self.lab.path) in command and "pve-testhost" not in command and "qemu-system" not in command
        ]

    def kill(self, victim, play):
        """SIGKILL to the module that runs, or to ansible-playbook."""
        if victim == "ansible":
            with contextlib.suppress(ProcessLookupError):
                os.kill(play.pid, signal.SIGKILL)
            return
        # By this name Ansible runs every module.
        modules = [pid for pid, command in self.processes() if Path(command.split(" ")[0]).name.removeprefix("AnsiballZ_") in MODULES]
        assert modules or play.poll() is not None, self.processes()
        for pid in modules:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def end_guest(self):
        """A loss of power."""
        for pid, command in processes():
            if "qemu-system" in command and str(self.lab.path) in command:
                os.kill(pid, signal.SIGKILL)

    # --- faults -----------------------------------------------------------------------------------

    def faults(self, *rules):
        file = self.lab.path / "faults.new"
        file.write_text(json.dumps(rules))
        file.rename(self.lab.path / "faults.json")

    def requests(self):
        log = self.lab.path / "pve/requests.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    # --- what there is ----------------------------------------------------------------------------

    def vm_configs(self):
        return sorted((self.lab.path / "pve/qemu-server").glob("*.conf"))

    def config(self):
        (config,) = self.vm_configs()
        return config.read_text()

    def vm_config(self, vmid):
        return (self.lab.path / f"pve/qemu-server/{vmid}.conf").read_text()

    def record(self):
        """The record in the VM's notes, as the configuration file has it: `#<!-- nixos-proxmox%3A v=1 ... -->`; {} without one."""
        text = unquote("".join(path.read_text() for path in self.vm_configs()))
        found = re.search(r"^#.*<!-- nixos-proxmox: (.*?) -->", text, re.M)
        return dict(word.split("=", 1) for word in found[1].split()) if found else {}

    def phase(self):
        """How far the machine has come: creating ... done; None without a record."""
        return self.record().get("phase")

    def installation(self):
        """The directory of the installation that the record names; the newest one if there is no record yet."""
        if self.record():
            return self.state / self.record()["installation"]
        found = sorted(self.state.glob("[0-9a-f]" * 32), key=lambda path: path.stat().st_mtime)
        return found[-1] if found else self.state / "none"

    def isos(self):
        return sorted(p.name for p in (self.lab.path / "pve/storage/local/template/iso").iterdir())

    def holds(self):
        """Names of everything that the host's storages and the controller hold, but for what changes from run to run.

        Not the files that processes lock: they stay for the next run, and which of them there are depends on what had to be read.
        """
        roots = ("pve/storage", "pve/tmp", "pve/qemu-server", "state", "home", "tmp")
        files = [p.relative_to(self.lab.path) for root in roots for p in (self.lab.path / root).rglob("*") if not p.is_dir()]
        return sorted({re.sub(r"[0-9a-f]{12,}|(?<=/plays/)[0-9-]+", "HEX", str(p)) for p in files if "stand-in-store" not in p.parts and p.parent.name != "locks" and p.parts[1] != ".ansible"})

    def installations(self):
        """How the runs of nixos-anywhere ended, in order."""
        text = self.runs.read_text() if self.runs.exists() else ""
        return re.findall(r"^ended with (\d+)", text, re.M)

    def own_flake(self):
        """From now on the machine's flake is a copy that a test may change; returns the file that describes its systems."""
        copy = self.lab.path / "flake"
        shutil.copytree(PROJECT / "testing/demo/flake", copy)
        hosts = self.inventory / "hosts.yml"
        hosts.write_text(hosts.read_text().replace(f"{PROJECT}/testing/demo/flake#", f"{copy}#"))
        return copy / "stand-in.json"

    def other(self, name, number, more):
        """Another machine on the same test host."""
        other = copy.copy(self)
        other.name, other.number, other.address = name, number, f"127.77.0.{number}"
        other.state = self.lab.path / "state" / name
        other.inventory = self.inventory.with_name(f"inventory-{name}")
        other.inventory.mkdir()
        (other.inventory / "group_vars").symlink_to(PROJECT / "testing/demo/inventory/group_vars")
        host = HOST.format(name=name, number=number, project=PROJECT, memory=512, install_memory=512, tools=self.lab.path / "tools")
        (other.inventory / "hosts.yml").write_text(host + more)
        return other

    def public_key(self):
        """Whose private half logs in to the machines."""
        return (self.lab.path / "ssh/id_ed25519.pub").read_text().strip()

    def ssh(self, command, *, check=True):
        """Log in as the user does: strictly, against the key that was known beforehand."""
        done = subprocess.run(
            ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "-o", "ConnectTimeout=30"]
            + ["-o", f"UserKnownHostsFile={self.state}/known_hosts", "-o", "IdentitiesOnly=yes"]
            + ["-i", str(self.lab.path / "ssh/id_ed25519"), "-p", str(self.port), f"root@{self.address}", command],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{command}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def boot_id(self, *, check=True):
        return self.ssh("cat /proc/sys/kernel/random/boot_id", check=check)

    def assert_installed(self):
        """One machine, installed, and no trace of how."""
        inside = self.ssh("cat /etc/os-release; awk '$2 == \"/\" { print \"root=\" $1 }' /proc/mounts; cat /etc/nixos-proxmox-demo")
        assert "VARIANT_ID=installer" not in inside.replace('"', "")
        assert re.search(r"^root=/dev/[sv]da", inside, re.M), inside
        assert "Put here by nixos-anywhere's --extra-files." in inside
        text = self.config()
        assert not re.search(r"^(ide|sata|sshkeys|ci|ipconfig|nameserver|searchdomain|tags|lock|unused)", text, re.M), text
        # The notes are the record and nothing else.
        notes = [line for line in text.split("\n[")[0].splitlines() if line.startswith("#")]
        assert len(notes) == 1 and self.phase() == "done", text
        assert self.isos() == ["installer.iso"]
        images = [p.name for p in (self.lab.path / "pve/storage/local/images").rglob("*") if not p.is_dir()]
        assert len(images) == 1, images
        kept = sorted(re.sub(r"[0-9a-f]{32}", "ID", str(p.relative_to(self.state))) for p in self.state.rglob("*") if p.is_file())
        # The demo's inventory passes its facts to the build.
        wrapper = [f"ID/facts/{name}" for name in ("facts.json", "flake.nix", "machine.json")]
        consoles = ["ID/console-installer.log", "ID/console-system.log"]
        assert kept == ["ID/closure", *consoles, *wrapper, "ID/host_key_ed25519.pub", "ID/install.log", "ID/record.json", "known_hosts"]
        for directory in ("tmp", "pve/tmp"):
            assert list((self.lab.path / directory).rglob("*")) == []
        assert not self.processes()


def processes():
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                found.append((int(entry), command))
    return found


def wait_until(condition, what, limit):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"waited {limit} s for {what() if callable(what) else what}"
        time.sleep(0.05)
