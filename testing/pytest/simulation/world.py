"""The test host with its VMs, the controllers that run plays, and what a person does in between."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
import urllib.parse
import uuid
from dataclasses import dataclass
from pathlib import Path

import yaml
from images import iso_image
from project import PROJECT, TESTHOST

from .guests import Disk, Guests

TOOLS = Path(__file__).resolve().with_name("tools")
# PVE's own word for a cluster without a majority of its nodes.
NO_QUORUM = "cluster not ready - no quorum?"
# What `cut` counts. The list of a node's VMs is not among it: the guests look at it themselves.
# A console is watched beside the steps, as often as time allows: its calls are none of theirs.
VM_CALLS = r"qemu/\d+(/(agent|clone|cloudinit|config|feature|migrate|move_disk|pending|resize|snapshot|template|unlink|status/[a-bd-z]).*)?"
CALLS = rf"^/(version|access/.*|cluster/.*|nodes/[^/]+/({VM_CALLS}|(storage|network)(/.*)?))$"
# Nothing is changed by a login, nor by reading a console.
HARMLESS = ("/access/ticket", "/termproxy")
WRITING = ("PUT", "POST", "DELETE")


class Refused(Exception):
    """The API answered with an error."""


class Api:
    """The API as root with a ticket. Plays use a token, so the request log tells the two apart."""

    def __init__(self, endpoint):
        self.endpoint = endpoint
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.lock = threading.Lock()
        self.connection = None
        self.headers = {}

    def __call__(self, method, path, **data):
        """The answer's data.

        Raises: Refused, with the status and what the server said; OSError or http.client.HTTPException when it said nothing.
        """
        with self.lock:
            if not self.headers:
                login = {"username": "root@pam", "password": self.endpoint["api_password"]}
                ticket = self.send("POST", "/access/ticket", login)
                self.headers = {"Cookie": f"PVEAuthCookie={ticket['ticket']}", "CSRFPreventionToken": ticket["CSRFPreventionToken"]}
            return self.send(method, path, data)

    def send(self, method, path, data):
        form = urllib.parse.urlencode(data)
        url, body = f"/api2/json{path}", form
        if method in ("GET", "DELETE"):
            url, body = url + (f"?{form}" if form else ""), None
        headers = {**self.headers, **({"Content-Type": "application/x-www-form-urlencoded"} if body else {})}
        for again in (True, False):
            if not self.connection:
                self.connection = http.client.HTTPSConnection("127.0.0.1", self.endpoint["api_port"], timeout=30, context=self.context)
            try:
                self.connection.request(method, url, body, headers)
                answer = self.connection.getresponse()
                text = answer.read().decode()
            except (OSError, http.client.HTTPException):
                self.connection.close()
                self.connection = None
                if not again:
                    raise
            else:
                break
        if answer.status != 200:
            raise Refused(f"{answer.status} {answer.reason} {text}")
        return json.loads(text)["data"]


class Vm:
    """A VM as a person sees it, and may change it."""

    def __init__(self, world, vmid):
        self.world = world
        self.vmid = vmid

    def __repr__(self):
        return f"VM {self.vmid}"

    @property
    def file(self):
        for path in (*self.world.pve.glob(f"qemu-server/{self.vmid}.conf"), *self.world.pve.glob(f"nodes/*/qemu-server/{self.vmid}.conf")):
            return path
        return None

    @property
    def exists(self):
        return self.file is not None

    @property
    def node(self):
        return self.file.parent.parent.name if "nodes" in self.file.relative_to(self.world.pve).parts else self.world.node

    @property
    def text(self):
        """The configuration file, without its snapshots and pending changes."""
        return re.split(r"^\[", self.file.read_text(), maxsplit=1, flags=re.M)[0] if self.exists else ""

    @property
    def config(self):
        return dict(re.findall(r"^([a-z][a-z0-9_]*): (.*)$", self.text, re.M))

    @property
    def notes(self):
        return "\n".join(urllib.parse.unquote(line) for line in re.findall(r"^#(.*)$", self.text, re.M))

    @property
    def tags(self):
        return [tag for tag in re.split("[;, ]", self.config.get("tags", "")) if tag]

    @property
    def record(self):
        """The role's record in the notes, as a dict; empty without one."""
        found = re.search(r"<!-- nixos-proxmox: (.*) -->", self.notes)
        pairs = (pair.split("=", 1) for pair in found[1].split()) if found else ()
        return {key: urllib.parse.unquote(value) for key, value in pairs}

    @property
    def running(self):
        return self.call("GET", "/status/current")["status"] == "running"

    def call(self, method, path, **data):
        """A request below the VM's path; a task is waited for."""
        return self.world.finish(self.world.api(method, f"/nodes/{self.node}/qemu/{self.vmid}{path}", **data))

    # --- its disks ----------------------------------------------------------------------------------

    @property
    def boot_device(self):
        """The disk that an installation writes to: the first of its bus with the lowest number."""
        disks = [key for key, value in self.config.items() if re.fullmatch(r"(scsi|virtio|sata)\d+", key) and "media=cdrom" not in value]
        return min(disks, key=lambda key: (int(re.search(r"\d+", key)[0]), key), default=None)

    def volume(self, drive):
        """The file of a drive's volume."""
        found = re.match(r"([\w-]+):([^,]+)", drive)
        if not found:
            return None
        name = found[2].rsplit("/", 1)[-1]
        roots = [*self.world.pve.glob(f"storage/{found[1]}"), *self.world.pve.glob(f"nodes/*/storage/{found[1]}")]
        return next((path for root in roots for path in root.rglob(name) if path.is_file()), None)

    @property
    def other_volumes(self):
        """The files of the disks beside the boot disk, by their keys."""
        config, boot = self.config, self.boot_device
        disks = [key for key, value in config.items() if re.fullmatch(r"(ide|scsi|virtio|sata)\d+", key) and "media=cdrom" not in value]
        return {key: self.volume(config[key]) for key in disks if key != boot}

    @property
    def disk(self):
        volume = self.volume(self.config.get(self.boot_device, ""))
        return Disk.read(volume) if volume else Disk()

    @disk.setter
    def disk(self, disk):
        disk.write(self.volume(self.config[self.boot_device]))

    def store(self, data):
        """Work for weeks on it: from now on the disk may not be lost."""
        disk = self.disk
        disk.data = data
        self.disk = disk

    # --- what people do -----------------------------------------------------------------------------

    def set(self, **options):
        self.call("PUT", "/config", **options)

    def detach(self, *drives):
        self.set(delete=",".join(drives))

    def start(self):
        self.world.boots_before[self.vmid] = len(self.boots)
        self.call("POST", "/status/start")

    def stop(self):
        self.call("POST", "/status/stop")

    @contextlib.contextmanager
    def console(self):
        """Its serial console as a file of lines, as `qm terminal` shows it: QEMU's socket has room for one."""
        endpoint, base = self.world.endpoint, f"/nodes/{self.node}/qemu/{self.vmid}"
        proxy = self.world.api("POST", f"{base}/termproxy", serial="serial0")
        query = urllib.parse.urlencode({"port": proxy["port"], "vncticket": proxy["ticket"]})
        head = {**self.world.api.headers, "Connection": "Upgrade", "Upgrade": "websocket"}
        head |= {"Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()}
        plain = socket.create_connection(("127.0.0.1", endpoint["api_port"]), 30)
        with self.world.api.context.wrap_socket(plain) as connection:
            lines = [f"GET /api2/json{base}/vncwebsocket?{query} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items())]
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            login = f"{proxy['user']}:{proxy['ticket']}\n".encode()
            # One masked frame whose length has two bytes; a mask of zeros changes nothing.
            connection.sendall(b"\x82\xfe" + len(login).to_bytes(2, "big") + bytes(4) + login)
            # Frames begin in the middle of lines, and these are not looked at closely.
            file = connection.makefile(errors="replace")
            while "starting serial terminal" not in file.readline():
                pass
            yield file

    def destroy(self):
        if self.running:
            self.stop()
        self.call("DELETE", "")

    def clone(self, name):
        """A full clone of another name; it is stopped."""
        vmid = int(self.world.api("GET", "/cluster/nextid"))
        self.call("POST", "/clone", newid=vmid, name=name, full=1)
        return Vm(self.world, vmid)

    def snapshot(self):
        """What `rollback` needs: the configuration and the disk's content of this moment."""
        return self.text, self.disk

    def rollback(self, snapshot):
        """As PVE does it: the notes of today stay, the vmgenid is new, and the VM is stopped."""
        if self.running:
            self.stop()
        options = "".join(f"{line}\n" for line in snapshot[0].splitlines() if not line.startswith(("#", "vmgenid:")))
        notes = "".join(f"{line}\n" for line in self.text.splitlines() if line.startswith("#"))
        self.file.write_text(f"{notes}{options}vmgenid: {uuid.uuid4()}\n")
        self.disk = snapshot[1]

    def finish_by_hand(self, *drives):
        """Detach installer and seed, boot from the disk, start."""
        if self.running:
            self.stop()
        drives = drives or [key for key, value in self.config.items() if "media=cdrom" in value]
        if drives:
            self.detach(*drives)
        self.set(boot=f"order={self.boot_device}")
        self.start()
        self.await_listening()

    def await_listening(self):
        """Wait until the guest of the VM's present run answers at its SSH port."""
        # The guests follow the host's calls a moment later: until then the guest of the run before is there.
        before = self.world.boots_before.get(self.vmid, -1)
        self.world.wait_until(
            lambda: len(self.boots) > before and (guest := self.world.guests.running.get(self.vmid)) and guest.server,
            f"the guest of {self!r}",
        )

    @property
    def state(self):
        """What may not change when a play leaves the VM alone."""
        return (self.text, self.disk, self.running, self.boots) if self.exists else None

    @property
    def boots(self):
        """What it has booted so far, in order."""
        return [event[3] for event in self.world.guests.events if event[1:3] == (self.vmid, "boot")]


@dataclass
class Recap:
    ok: int
    changed: int
    unreachable: int
    failed: int
    skipped: int


class Play:
    """A play that has ended."""

    def __init__(self, code, output, seconds):
        self.code = code
        self.output = output
        self.seconds = seconds

    @property
    def recap(self):
        """By host."""
        line = r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+) +skipped=(\d+)"
        return {found[1]: Recap(*map(int, found.groups()[1:])) for found in re.finditer(line, self.output, re.M)}

    @property
    def changed(self):
        return sum(recap.changed for recap in self.recap.values())

    @property
    def failures(self):
        """The messages of failed tasks, by host."""
        messages = {}
        for found in re.finditer(r"^fatal: \[([^\] ]+)[^\]]*\]: [^\n]*? => (?=\{)", self.output, re.M):
            answer, _ = json.JSONDecoder().raw_decode(self.output, found.end())
            messages.setdefault(found[1], []).append(str(answer.get("msg", answer)))
        return messages

    @property
    def message(self):
        """All messages of failed tasks."""
        return "\n".join(message for messages in self.failures.values() for message in messages)

    def succeeded(self):
        """Assert it; the play itself, for what else is asked of it."""
        assert self.code == 0 and all(recap.failed == recap.unreachable == 0 for recap in self.recap.values()), self.output
        return self

    def refused(self, *parts):
        """Assert that it failed for the reason that these texts, in any case, stand for."""
        assert self.code != 0, f"the play went through:\n{self.output}"
        for part in parts:
            assert part.lower() in self.message.lower(), f"{part!r} is not in: {self.message or self.output}"
        return self


class Controller:
    """A computer, or an account, that runs plays: its home, its temporary files and its state directory."""

    def __init__(self, world, name):
        self.world = world
        self.path = world.path / "controllers" / name
        for directory in ("home", "tmp", "ansible"):
            (self.path / directory).mkdir(parents=True)

    @property
    def state(self):
        return self.path / "state"

    def environment(self, **more):
        taken = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PROXMOX_", "NIXOS_", "XDG_"))}
        return taken | {
            # scripts/test-compat.sh has other versions of Ansible.
            "PATH": f"{os.environ.get('ANSIBLE_VENV', PROJECT / '.venv')}/bin:{taken['PATH']}",
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_LOCAL_TEMP": str(self.path / "ansible/local"),
            "ANSIBLE_REMOTE_TEMP": str(self.path / "ansible/remote"),
            "HOME": str(self.path / "home"),
            "TMPDIR": str(self.path / "tmp"),
            "NIXOS_VM_PROGRESS": "off",
            "SIMULATED_RUNS": str(self.world.runs),
            **more,
        }

    def inventory(self, machines, **variables):
        """A directory with the inventory of these machines; `variables` are those of the group."""
        hosts = {machine.name: without_unset(machine.host_variables) for machine in machines}
        group = without_unset({**self.world.variables(), "nixos_vm_state_root": str(self.state), **variables})
        folder = self.path / f"inventory{time.monotonic_ns()}"
        folder.mkdir()
        (folder / "hosts.yml").write_text(yaml.safe_dump({"nixos_vms": {"hosts": hosts, "vars": group}}, sort_keys=False))
        return folder

    def play(self, machines, *flags, playbook="provision.yml", environment=None, timeout=300, launcher=(), **variables):
        """Run the play to its end."""
        inventory = self.inventory(machines, **variables)
        return self.run(inventory, *flags, playbook=playbook, environment=environment, timeout=timeout, launcher=launcher)

    def run(self, inventory, *flags, playbook="provision.yml", environment=None, timeout=300, launcher=()):
        """Run a playbook. `launcher` is a command that takes Ansible's as its arguments."""
        since = time.monotonic()
        done = subprocess.run(
            [*launcher, "ansible-playbook", playbook, "-i", str(inventory), *flags],
            cwd=PROJECT,
            env=self.environment(**(environment or {})),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        return Play(done.returncode, done.stdout, time.monotonic() - since)

    def module(self, name, **options):
        """What a module answers under the real Ansible, as a dict; `failed` is in it if it failed."""
        arguments = json.dumps({**self.world.connection, **options})
        done = subprocess.run(
            ["ansible", "localhost", "-i", "localhost,", "-c", "local", "-m", name, "-a", arguments],
            cwd=PROJECT, env=self.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False,
        )
        found = re.search(r"^localhost \| (\S+?)(?: \(rc=\d+\))? => (\{.*^\})", done.stdout + done.stderr, re.M | re.S)
        assert found, done.stdout + done.stderr
        return {"failed": found[1].startswith("FAILED"), **json.loads(found[2])}

    @contextlib.contextmanager
    def playing(self, machines, *flags, playbook="provision.yml", environment=None, **variables):
        """The play while it runs, in a process group of its own. It is killed at the end of the block if it still runs."""
        log = self.path / f"play{time.monotonic_ns()}.log"
        inventory = self.inventory(machines, **variables)
        with log.open("w") as file:
            process = subprocess.Popen(
                ["ansible-playbook", playbook, "-i", str(inventory), *flags],
                cwd=PROJECT,
                env=self.environment(**(environment or {})),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        process.log = log
        try:
            yield process
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def cut(self, machines, call, after_effect):
        """Run the play, and kill it with SIGKILL at its `call`-th call of the API, before or after its effect.

        Polls of tasks are not counted, since their number varies. Call 0 is the VM's creation. False: the play ended
        before it had such a call.
        """
        if call == 0:
            rules = [{"method": "POST", "path": "/nodes/*/qemu", "nth": 1, "action": "drop-after" if after_effect else "drop-before"}]
        else:
            rules = [{"path": CALLS, "nth": call + int(after_effect), "times": 10**9, "action": "drop-before"}]
            if after_effect:
                rules.insert(0, {"path": CALLS, "nth": call, "action": "drop-after"})
        begin = len(self.world.requests())
        self.world.faults(*rules)
        try:
            with self.playing(machines) as play:
                met = lambda: any(request["status"] is None for request in self.world.requests()[begin:])  # noqa: E731
                self.world.wait_until(lambda: play.poll() is not None or met(), "the call to be made", 200)
        finally:
            self.world.faults()
        return met()

    def destroy(self, *machines):
        confirmed = json.dumps({"nixos_vm_confirm_destroy": [machine.name for machine in machines]})
        return self.play(machines, "-e", confirmed, playbook="playbooks/destroy.yml")

    def files_with(self, text):
        """The files that the plays have left in temporary directories and in the home, and that hold this text."""
        roots = [self.path / name for name in ("home", "tmp", "ansible")]
        found = []
        for path in (Path(place, name) for root in roots for place, _, names in os.walk(root) for name in names):
            with contextlib.suppress(OSError):
                if path.is_file() and text.encode() in path.read_bytes():
                    found.append(path)
        return found


class Machine:
    """A host of the inventory with an address of its own."""

    def __init__(self, world, name, number, **variables):
        self.world = world
        self.name = name
        self.number = number
        self.inside = f"{world.inside_block}.{number}"
        self.address = world.outside(self.inside)
        self.variables = variables

    @property
    def host_variables(self):
        return {"ansible_host": self.address, "nixos_vm_ip": f"{self.inside}/24", **self.variables}

    def with_variables(self, **variables):
        """The same host, described otherwise."""
        return Machine(self.world, self.name, self.number, **{**self.variables, **variables})

    def play(self, *flags, controller=None, **more):
        return (controller or self.world.controller).play([self], *flags, **more)

    def destroy(self, controller=None):
        return (controller or self.world.controller).destroy(self)

    @property
    def vms(self):
        """The VMs of its name."""
        return [vm for vm in self.world.vms() if vm.config.get("name") == self.variables.get("nixos_vm_name", self.name)]

    @property
    def vm(self):
        (vm,) = self.vms
        return vm

    def behaves(self, **how):
        self.world.guests.behaves(self.name, **how)

    def state(self, controller=None):
        return (controller or self.world.controller).state / self.name

    def runs(self):
        """How many runs of nixos-anywhere began and ended, for this machine."""
        text = self.world.runs.read_text() if self.world.runs.exists() else ""
        # By this name nixos-anywhere knows a machine with an IPv6 address.
        host = f"ipv6-{self.address.replace(':', '-')}.invalid" if ":" in self.address else self.address
        return [len(re.findall(rf"^{event} \S*@{re.escape(host)}$", text, re.M)) for event in ("begins", "ends")]


class World:
    """A test host, its guests and a controller. Everything is below `path`."""

    ssh_port = 2222

    def __init__(self, path, nodes=()):
        self.path = Path(path)
        self.pve = self.path / "pve"
        self.pve.mkdir(parents=True)
        self.runs = self.path / "runs"
        self.claim_addresses()
        command = [TESTHOST, "serve", "--data", self.pve, "--accel", "none"]
        command += ["--faults", self.path / "faults.json", "--auth-delay", "0.2", *(["--nodes", ",".join(nodes)] if nodes else [])]
        with (self.path / "server.log").open("w") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        file = self.pve / "endpoint.json"
        self.wait_until(lambda: file.exists() and file.stat().st_size, "the test host")
        self.endpoint = json.loads(file.read_text())
        self.node = self.endpoint["node"]
        self.api, self.watching = Api(self.endpoint), Api(self.endpoint)
        self.boots_before = {}
        (self.path / "installer.iso").write_bytes(iso_image(bytes(28672)))
        self.login_key = self.path / "login_key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.login_key], check=True)
        self.login_key_public = self.login_key.with_suffix(".pub").read_text().strip()
        self.controllers = {}
        self.numbers = iter(range(1, 250))
        self.guests = Guests(self)
        self.guests.start()

    def claim_addresses(self):
        """Take 256 loopback addresses that no other run on this computer has: the socket is the claim."""
        for _ in range(100):
            block = f"{random.randrange(100, 250)}.{random.randrange(256)}"
            self.claim = socket.socket()
            try:
                self.claim.bind((f"127.{block}.254", self.ssh_port))
                self.claim.listen()
            except OSError:
                self.claim.close()
            else:
                self.inside_block = f"10.{block}"
                return
        raise RuntimeError("no free block of loopback addresses was found")

    @staticmethod
    def outside(address):
        """Where the controller reaches a guest with this address. One of IPv6 has to be an address of this computer."""
        return address if ":" in address else f"127.{address.split('.', 1)[1]}"

    def agent_reports(self, vmid, *cidrs):
        """What the network gives a guest, and its agent reports; the address beyond the link is the one that it listens at."""
        file = self.pve / "guests.json"
        said = json.loads(file.read_text()) if file.exists() else {}
        said[str(vmid)] = {"addresses": cidrs}
        file.write_text(json.dumps(said))

    def reported_by_agent(self, vmid):
        """The addresses of IPv6 that the network gives a guest, without those of the link."""
        file = self.pve / "guests.json"
        said = json.loads(file.read_text()) if file.exists() else {}
        cidrs = said.get(str(vmid), {}).get("addresses", [])
        return [cidr.split("/")[0] for cidr in cidrs if ":" in cidr and not cidr.startswith("fe80:")]

    def end(self):
        self.guests.stop()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.claim.close()

    # --- controllers and inventories ----------------------------------------------------------------

    @property
    def controller(self):
        return self.controller_named("first")

    def controller_named(self, name):
        if name not in self.controllers:
            self.controllers[name] = Controller(self, name)
        return self.controllers[name]

    @property
    def connection(self):
        """Of the modules, without the role's prefix."""
        return {key: self.endpoint[key] for key in ("api_host", "api_port", "api_user", "api_token_id", "api_token_secret", "tls_fingerprint")}

    def variables(self):
        """The group's variables that every machine needs."""
        return {
            **{f"nixos_vm_{key}": value for key, value in self.connection.items()},
            "nixos_vm_node": self.node,
            "nixos_vm_memory": 512,
            "nixos_vm_cpu": "qemu64",
            "nixos_vm_disks_storage": "local",
            "nixos_vm_disk_size": 1,
            "nixos_vm_gateway": f"{self.inside_block}.253",
            "nixos_vm_nameservers": [f"{self.inside_block}.253"],
            "nixos_vm_installer_iso": str(self.path / "installer.iso"),
            "nixos_vm_flake": f"{PROJECT}/testing/demo/flake#web",
            "nixos_vm_tools_path": str(TOOLS),
            "nixos_vm_boot_timeout": 60,
            "nixos_vm_install_timeout": 120,
            "ansible_user": "root",
            "ansible_port": self.ssh_port,
            "ansible_ssh_private_key_file": str(self.login_key),
        }

    def machine(self, name="web", **variables):
        """A host of a name and an address that no other has."""
        number = next(self.numbers)
        return Machine(self, f"{name}{number}", number, **variables)

    # --- VMs ----------------------------------------------------------------------------------------

    def vm(self, vmid):
        return Vm(self, vmid)

    def disk_image(self, name="nixos.raw", size=1 << 20):
        """The image of a disk with a system that has cloud-init; its path."""
        path = self.path / name
        image = bytearray(size)
        image[510:512] = b"\x55\xaa"
        path.write_bytes(image)
        Disk(system=f"/nix/store/{name}", instance="").write(path)
        return path

    def from_image(self):
        """The variables of machines that share one disk image, to which the operator's key may log in."""
        return {
            "nixos_vm_method": "image",
            "nixos_vm_disk_image": str(self.disk_image()),
            "nixos_vm_authorized_keys": [self.login_key_public],
            "nixos_vm_installer_iso": "",
            "nixos_vm_flake": "",
        }

    def private_keys_in(self, path):
        """Whether a file, such as a seed ISO, has a private SSH key, as it is or in Base64."""
        content = path.read_bytes()
        return any(text in content for text in (b"PRIVATE KEY", base64.b64encode(b"-----BEGIN OPENSSH PRIVATE KEY")[:36]))

    def vms(self):
        files = [*self.pve.glob("qemu-server/*.conf"), *self.pve.glob("nodes/*/qemu-server/*.conf")]
        return [Vm(self, vmid) for vmid in sorted(int(file.stem) for file in files)]

    def password_user(self, name, password):
        """A user who may do everything and has no token."""
        file = self.pve / "access.json"
        access = json.loads(file.read_text())
        access["users"][f"{name}@pve"] = {"password_sha256": hashlib.sha256(password.encode()).hexdigest()}
        access["acl"].append({"path": "/", "ugid": f"{name}@pve", "role": "Administrator"})
        file.write_text(json.dumps(access))
        return f"{name}@pve"

    def create(self, name, /, vmid=None, **options):
        """A VM that a person makes in the GUI."""
        vmid = vmid or int(self.api("GET", "/cluster/nextid"))
        usual = {"memory": 256, "scsi0": "local:1", "net0": "virtio,bridge=vmbr0", "boot": "order=scsi0"}
        self.finish(self.api("POST", f"/nodes/{self.node}/qemu", vmid=vmid, name=name, **{**usual, **options}))
        return Vm(self, vmid)

    def in_production(self, machine, /, **options):
        """A VM with a system that the role has not installed, of the machine's name and at its address. It runs."""
        vm = self.create(options.pop("name", machine.name), **options)
        key = self.path / f"tenant_key{vm.vmid}"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        tenant = Disk(system="/nix/store/tenant", host_keys=[key.read_text()], address=machine.inside, data="the tenant's data")
        tenant.authorized_keys = [self.login_key_public]
        vm.disk = tenant
        vm.start()
        vm.await_listening()
        return vm

    def finish(self, answer):
        """Wait for the task that a request may have started."""
        if not isinstance(answer, str) or not answer.startswith("UPID:"):
            return answer
        path = f"/nodes/{answer.split(':')[1]}/tasks/{answer}/status"
        self.wait_until(lambda: self.api("GET", path)["status"] == "stopped", answer)
        status = self.api("GET", path)["exitstatus"]
        if status != "OK":
            raise Refused(f"{answer}: {status}")
        return answer

    def power_states(self):
        """Which VMs run; None when the test host does not say."""
        states = {}
        try:
            for node in self.endpoint["nodes"]:
                states.update({int(vm["vmid"]): vm["status"] == "running" for vm in self.watching("GET", f"/nodes/{node}/qemu")})
        except (Refused, OSError, http.client.HTTPException):
            return None
        return states

    @contextlib.contextmanager
    def untouched(self, *vms):
        """Assert that the block changes neither configuration nor disk nor power of these VMs."""
        before = [vm.state for vm in vms]
        yield
        for vm, state in zip(vms, before, strict=True):
            assert vm.state == state, f"{vm!r} was changed:\n{state}\n{vm.state}"

    # --- the API's log and faults -------------------------------------------------------------------

    def requests(self):
        """Every request of plays."""
        log = self.pve / "requests.jsonl"
        requests = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [request for request in requests if request["user"] != "root@pam"]

    def writes(self):
        """Those that could have changed anything."""
        return [request for request in self.requests() if request["method"] != "GET" and not request["path"].endswith(HARMLESS)]

    @contextlib.contextmanager
    def unchanged(self):
        """Assert that no play of the block asks Proxmox VE to change anything."""
        before = len(self.writes())
        yield
        made = [f"{request['method']} {request['path']}" for request in self.writes()[before:]]
        assert not made, made

    def faults(self, *rules):
        """From now on these, and no others."""
        file = self.path / "faults.new"
        file.write_text(json.dumps(rules))
        file.rename(self.path / "faults.json")

    def lose_quorum(self):
        """Reads are answered, writes are refused."""
        self.faults(*({"method": method, "path": "/nodes/*", "action": "task-fail", "message": NO_QUORUM} for method in WRITING))

    @contextlib.contextmanager
    def without_quorum(self):
        """From the moment that the yielded function is called, to the end of the block."""
        try:
            yield self.lose_quorum
        finally:
            self.faults()

    @property
    def losses(self):
        return self.guests.losses

    def wait_until(self, condition, what, limit=60):
        end = time.monotonic() + limit
        while not condition():
            assert time.monotonic() < end, f"waited {limit} s for {what() if callable(what) else what}"
            time.sleep(0.02)


def without_unset(variables):
    """`...` stands for a variable that is not to be there."""
    return {key: value for key, value in variables.items() if value is not ...}


def remove(world):
    """End it and remove what it holds."""
    world.end()
    shutil.rmtree(world.path, ignore_errors=True)
