"""The module with the real Nix and the real nixos-anywhere, onto a fake installer in a network of its own.

Needs root (namespaces), nix 2.20 or newer (REAL_NIX: its directory, else PATH), the real nixos-anywhere
(REAL_NIXOS_ANYWHERE: its script with get-facts.sh beside it, else PATH), sshd, and tc. See CONTRIBUTING.md.
Nothing outside of the namespaces is changed, where /nix is the lab's own; but an empty /nix is made where there is none.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parents[2]
SLOW = 2  # Mbit/s
# Packets to it are swallowed: the fake installer forwards nothing.
SWALLOWS = "http://198.51.100.9"


def not_run(reason):
    pytest.skip(f"NOT RUN: {reason}")


def module():
    named = os.environ.get("NIXOS_ANYWHERE_INSTALL")
    places = [Path(named)] if named else [PROJECT / "target/debug/nixos_anywhere_install", PROJECT / "library/nixos_anywhere_install"]
    return next((place for place in places if place.exists()), None) or not_run("the module is not built (make build)")


@pytest.fixture(scope="session")
def programs():
    if os.geteuid() != 0:
        not_run("namespaces need root")
    path = os.pathsep.join(filter(None, [os.environ.get("REAL_NIX"), os.environ["PATH"], "/usr/sbin:/sbin"]))
    nix = shutil.which("nix", path=path) or not_run("there is no nix (REAL_NIX or PATH)")
    said = subprocess.run([nix, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)\.(\d+)", said)
    if not version or (int(version[1]), int(version[2])) < (2, 20):
        not_run(f"{nix} is {said.strip()!r}, and 2.20 or newer is needed")
    script = os.environ.get("REAL_NIXOS_ANYWHERE") or shutil.which("nixos-anywhere", path=path)
    script = script or not_run("there is no nixos-anywhere (REAL_NIXOS_ANYWHERE or PATH)")
    unpacked = PROJECT / ".cache/packages/openssh-server/usr/sbin/sshd"
    sshd = str(unpacked) if unpacked.exists() else shutil.which("sshd", path=path)
    sshd = sshd or not_run("there is no sshd (scripts/setup.sh test)")
    for program in ("tc", "ip", "cpio", "pgrep", "nsenter"):
        shutil.which(program, path=path) or not_run(f"there is no {program}")
    probe = "ip link add probe0 type veth peer name probe1 && tc qdisc add dev probe0 root tbf rate 1mbit burst 16k latency 1s"
    done = subprocess.run(["unshare", "-nmpf", "sh", "-c", probe], capture_output=True, text=True, check=False)
    if done.returncode:
        not_run(f"no namespaces, veth or tbf here ({done.stderr.strip()})")
    return {"path": path, "nix": nix, "nixos-anywhere": script, "sshd": sshd, "module": str(module())}


class Lab:
    """A controller and a fake installer, each in namespaces of its own, with a link between them."""

    def __init__(self, path, programs):
        self.path, self.programs = path, programs
        for name in ("tools", "target-bin", "conf", "target-conf", "flake", "nix", "tmp", "home"):
            (path / name).mkdir()
        for name in ("key", "host_key", "hop_key", "hop_host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path / name], check=True)
        # Not links: nixos-anywhere looks for get-facts.sh beside itself.
        self.script("tools/nixos-anywhere", f'exec bash "{programs["nixos-anywhere"]}" "$@"')
        nix = Path(programs["nix"]).parent
        for name in ("nix", "nix-store", "nix-daemon"):
            (path / "tools" / name).symlink_to(nix / name)
            (path / "target-bin" / name).symlink_to(nix / name)
        self.script(
            "target-bin/nixos-install",
            'while [ "$1" != --system ]; do shift; done\n'
            'echo "install $2" >>"$LAB/done"\n'
            '[ -e "/mnt$2/system" ] || { echo "the closure is not in /mnt" >&2; exit 1; }\n'
            '[ ! -e "$LAB/slow-install" ] || sleep 15\n'
            'mkdir -p /mnt/nix/var/nix/profiles\n'
            'ln -sfn "$2" /mnt/nix/var/nix/profiles/system-1-link\n'
            'ln -sfn system-1-link /mnt/nix/var/nix/profiles/system\n'
            'echo "installed" >>"$LAB/done"',
        )
        self.settings(substitute=False)
        namespaces = ["unshare", "-nmpf", "--kill-child=KILL", "--mount-proc"]
        wait = f"mount --bind {path}/nix /nix && ip link set lo up && echo ready && exec sleep 1000000"
        self.controller = subprocess.Popen([*namespaces, "sh", "-c", wait], stdout=subprocess.PIPE, text=True)
        assert self.controller.stdout.readline() == "ready\n"
        self.pid = subprocess.run(["pgrep", "-P", str(self.controller.pid)], capture_output=True, text=True, check=True).stdout.strip()
        # It waits for its end of the link.
        until = "until ip link show target >/dev/null 2>&1; do sleep 0.1; done"
        self.target = subprocess.Popen(
            [*namespaces, "sh", "-c", f'{until}; exec sh "$@"', "sh", HERE / "target.sh", path, programs["sshd"]],
            env=self.environment(),
        )
        self.wait(lambda: subprocess.run(["pgrep", "-P", str(self.target.pid)], capture_output=True, check=False).returncode == 0)
        target = subprocess.run(["pgrep", "-P", str(self.target.pid)], capture_output=True, text=True, check=True).stdout.strip()
        self.run("sh", "-c", "ip link add controller type veth peer name target")
        # By its number outside: the link is moved by the mother of both namespaces.
        subprocess.run(["nsenter", "-t", self.pid, "-n", "ip", "link", "set", "target", "netns", target], check=True)
        for command in (
            "ip addr add 10.77.0.1/24 dev controller", "ip link set controller up", "ip route add 198.51.100.0/24 via 10.77.0.2",
        ):
            self.run("sh", "-c", command)
        self.wait(lambda: self.run("bash", "-c", "exec 3<>/dev/tcp/10.77.0.2/22", check=False).returncode == 0)

    def script(self, name, text):
        file = self.path / name
        file.write_text(f"#!/bin/sh\n{text}\n")
        file.chmod(0o755)

    def settings(self, *, substitute):
        text = f"sandbox = false\nbuild-users-group =\nsubstitute = {str(substitute).lower()}\n"
        text += "experimental-features = nix-command flakes\n"
        text += f"substituters = {SWALLOWS if substitute else ''}\n"
        # A build into /mnt, which is another root, always has a sandbox: with the flake's builders in it.
        text += "sandbox-paths = /bin /usr /lib /lib64\n"
        for name in ("conf", "target-conf"):
            (self.path / name / "nix.conf").write_text(text)

    def flake(self, *, payload=16, tools=1, build=0, substituter="http://127.0.0.1:1"):
        text = (HERE / "flake.nix").read_text()
        for name, value in {"payload": payload, "tools": tools, "build": build, "substituter": substituter}.items():
            text = text.replace(f"@{name}@", str(value))
        (self.path / "flake/flake.nix").write_text(text)

    def environment(self):
        kept = {"PATH": self.programs["path"], "HOME": f"{self.path}/home", "TMPDIR": f"{self.path}/tmp"}
        return kept | {"NIX_CONF_DIR": f"{self.path}/conf", "NIX_USER_CONF_FILES": "/dev/null"}

    def nsenter(self):
        return ["nsenter", "-t", self.pid, "-n", "-m", "-p"]

    def run(self, *command, check=True):
        done = subprocess.run(
            [*self.nsenter(), *command], env=self.environment(), capture_output=True, text=True, check=False, timeout=580
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def wait(self, condition, seconds=60):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, (self.path / "sshd.log").read_text() if (self.path / "sshd.log").exists() else ""
            time.sleep(0.1)

    def arguments(self, **options):
        arguments = {
            "host": "10.77.0.2", "private_key_file": f"{self.path}/key", "host_keys": [(self.path / "host_key.pub").read_text().strip()],
            "flake": f"path:{self.path}/flake#real", "tools_path": f"{self.path}/tools", "log_path": f"{self.path}/log",
            "progress_path": f"{self.path}/progress", "timeout": 500, "_ansible_check_mode": False, **options,
        }
        file = self.path / "arguments.json"
        file.write_text(json.dumps(arguments))
        return [self.programs["module"], str(file)]

    def start(self, **options):
        command = [*self.nsenter(), *self.arguments(**options)]
        return subprocess.Popen(command, env=self.environment(), stdout=subprocess.PIPE, text=True)

    def install(self, **options):
        began = time.monotonic()
        done = self.run(*self.arguments(**options), check=False)
        answer = json.loads(done.stdout)
        answer["took"] = time.monotonic() - began
        phases = ", ".join(f"{phase['name']} {phase['seconds']}" for phase in answer.get("phases") or [])
        print(f"\n{answer['took']:.1f} s: {answer.get('msg')}\n  {phases}")
        for warning in answer.get("warnings") or []:
            print(f"  warning: {warning}")
        return answer

    def done(self):
        """What ran on the installer."""
        file = self.path / "done"
        return [line.split()[0] for line in file.read_text().splitlines()] if file.exists() else []

    def slow_link(self, rate):
        self.run("tc", "qdisc", "replace", "dev", "controller", "root", "tbf", "rate", rate, "burst", "32k", "latency", "400ms")

    def close(self):
        for process in (self.target, self.controller):
            process.kill()
            process.wait()


@pytest.fixture
def lab(programs, tmp_path):
    lab = Lab(tmp_path, programs)
    yield lab
    lab.close()


def succeeded(answer):
    assert not answer.get("failed"), json.dumps(answer, indent=1)
    assert answer["changed"] and answer["released"]


@pytest.mark.parametrize("build_on", ["local", "remote"])
def test_plain(lab, build_on):
    lab.flake()
    answer = lab.install(build_on=build_on)
    succeeded(answer)
    assert lab.done() == ["disko", "install", "installed"]
    assert [phase["name"] for phase in answer["phases"]][-2:] == ["Installing NixOS", "Verifying and releasing the disks"]


@pytest.mark.parametrize("build_on", ["local", "remote"])
def test_through_a_jump_host(lab, build_on):
    """The machine's loopback is reached from nowhere else."""
    lab.flake()
    way = {
        "host": "127.0.0.1", "jump_host": "root@10.77.0.2:2201", "jump_host_private_key_file": f"{lab.path}/hop_key",
        "jump_host_keys": [(lab.path / "hop_host_key.pub").read_text().strip()],
    }
    answer = lab.install(build_on=build_on, **way)
    succeeded(answer)
    assert lab.done() == ["disko", "install", "installed"]
    log = (lab.path / "hop.log").read_text()
    through = log.count("server_request_direct_tcpip: ")
    # Every login to the machine, beside one that ssh-copy-id tries, and no key of the machine to the jump host.
    logins = re.findall(r"Accepted publickey for root from (\S+)", (lab.path / "sshd.log").read_text())
    assert set(logins) == {"127.0.0.1"} and 8 <= len(logins) <= through
    offered = subprocess.run(["ssh-keygen", "-lf", lab.path / "key.pub"], capture_output=True, text=True, check=True).stdout.split()[1]
    assert offered not in log
    print(f"  {through} connections through the jump host")


def test_phases_one_by_one(lab):
    lab.flake()
    assert lab.install(phases=["disko"])["msg"].startswith("formatted the disks of")
    succeeded(lab.install(phases=["install"]))
    assert lab.done() == ["disko", "install", "installed"]


def test_a_slow_link(lab):
    """The copy of disko's closure comes in the phase of the facts, which is short otherwise."""
    lab.flake(tools=52 * 1024)
    lab.slow_link(f"{SLOW}mbit")
    answer = lab.install(build_on="auto")
    succeeded(answer)
    assert next(phase["seconds"] for phase in answer["phases"] if phase["name"] == "Gathering machine facts") > 180


def test_a_slow_local_build_under_auto(lab):
    lab.flake(build=110)
    answer = lab.install(build_on="auto")
    succeeded(answer)
    assert answer["took"] > 200


@pytest.mark.parametrize("build_on", ["local", "auto"])
def test_a_firewall_swallows_a_substituter(lab, build_on):
    lab.flake(substituter=SWALLOWS)
    lab.settings(substitute=True)
    answer = lab.install(build_on=build_on)
    succeeded(answer)
    for whose in ("from this controller", "from 10.77.0.2"):
        assert any(SWALLOWS in warning and whose in warning for warning in answer["warnings"]), answer["warnings"]
    # With Nix's own patience each of its commands waits for 79 s.
    assert answer["took"] < 130


def test_the_controller_is_killed_while_it_installs(lab):
    lab.flake()
    (lab.path / "slow-install").touch()
    first = lab.start()
    lab.wait(lambda: "install" in lab.done())
    module = subprocess.run(["pgrep", "-P", str(first.pid)], capture_output=True, text=True, check=False).stdout.split()
    for pid in module or [str(first.pid)]:
        os.kill(int(pid), signal.SIGKILL)
    first.wait()
    (lab.path / "slow-install").unlink()
    answer = lab.install()
    succeeded(answer)
    # The second disko came after the end of the first installation.
    assert lab.done() == ["disko", "install", "installed", "disko", "install", "installed"]
    assert "another installation still runs on it" in (lab.path / "progress").read_text()
