"""Guests of simulated VMs: what they boot, their SSH server, and disks that can be lost."""

import asyncio
import base64
import contextlib
import io
import json
import logging
import re
import shutil
import subprocess
import tarfile
import tempfile
import threading
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path

import asyncssh
import yaml

# One line for each connection would drown the output of a failed test.
logging.getLogger("asyncssh").setLevel(logging.CRITICAL)

BOOT_SECONDS = 0.2
INSTALLER = 'ID=nixos\nVARIANT_ID=installer\nVERSION_ID="26.05"\nPRETTY_NAME="NixOS Installer (simulated)"\n'
INSTALLED = 'ID=nixos\nVERSION_ID="26.05"\nPRETTY_NAME="NixOS (simulated)"\n'
INSTALLER_SYSTEM = "/nix/store/00000000000000000000000000000000-nixos-system-installer"
# A volume that starts with this line was written to; JSON follows, up to a NUL byte.
MAGIC = b"simulated disk\n"


@dataclass
class Disk:
    """What is on a volume. It is kept in the volume itself, so that clones and rollbacks take it along."""

    formats: int = 0
    # Set when NixOS was installed: the system and how it answers.
    system: str = ""
    host_keys: list = field(default_factory=list)
    # Its addresses, separated by blanks.
    address: str = ""
    authorized_keys: list = field(default_factory=list)
    # How often the installed system was booted.
    boots: int = 0
    # What a user has stored on it.
    data: str = ""
    # The ID of the instance that its cloud-init has set up; None for a system without cloud-init.
    instance: str | None = None

    @classmethod
    def read(cls, volume):
        with volume.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return cls()
            return cls(**json.loads(file.read(1 << 20).split(b"\0")[0]))

    def write(self, volume):
        with volume.open("r+b") as file:
            file.write(MAGIC + json.dumps(asdict(self)).encode() + b"\0")


@dataclass
class Behaviour:
    """How a guest differs from one that behaves. It belongs to a VM's name and may change at any time."""

    os_release: str | None = None
    hostname: str = "guest"
    # The system that it claims to run, and the one that the profile of a new installation leads to.
    running_system: str | None = None
    installed_system: str | None = None
    failed_units: str = ""
    release_error: str = ""
    # Other private host keys than those it was given.
    host_keys: list | None = None
    # "refuse": nothing listens. "hang": connections are accepted and never answered.
    # "stall": logins work, commands never end.
    silence: str = ""
    # Bytes that are added to the answer that tells the facts, and to the output of every command.
    flood_facts: int = 0
    flood: int = 0
    # Called in a thread of its own before a phase of the installation: format, files, install, release.
    before: dict = field(default_factory=dict)
    # Phases of the installation that fail.
    fails: tuple = ()
    # What it prints to its serial console when it boots.
    console: bytes = b""


@dataclass
class Guest:
    """One run of a VM."""

    vmid: int
    name: str
    # installer, installed, or None for a VM that finds nothing to boot.
    boots: str | None
    address: str | None = None
    authorized_keys: list = field(default_factory=list)
    host_keys: list = field(default_factory=list)
    files: bytes = b""
    server: object = None
    # The behaviour that the server was started with.
    listens_as: tuple = ()


class Guests(threading.Thread):
    """Runs the guests of a test host from `start()` to `stop()`."""

    def __init__(self, world):
        super().__init__(daemon=True, name="guests")
        self.world = world
        self.running = {}
        # How the last deployment to each VM ended.
        self.deployed = {}
        # The tasks that boot them, by VMID.
        self.booting = {}
        self.behaviours = {}
        # (seconds since the epoch, VMID, what happened, details)
        self.events = []
        # Disks that were formatted although a system had booted from them or data was on them.
        self.losses = []
        # VMs whose next formatting somebody confirmed.
        self.given_up = set()
        # Commands that no guest knows: the simulation has to learn them.
        self.unknown = []
        self.ending = threading.Event()
        # VMs that are powering off: the test host calls them running for a moment longer.
        self.leaving = set()

    def behaves(self, name, **how):
        """Set how the guests of VMs of that name behave; without arguments, as they should."""
        self.behaviours[name] = Behaviour(**how)

    def behaviour(self, guest):
        return self.behaviours.get(guest.name) or Behaviour()

    def log(self, vmid, what, *details):
        self.events.append((time.time(), vmid, what, *details))

    def stop(self):
        self.ending.set()
        self.join(10)

    def run(self):
        try:
            asyncio.run(self.follow())
        except Exception:
            traceback.print_exc()

    # --- power --------------------------------------------------------------------------------------

    async def follow(self):
        """Boot and end guests as the VMs of the test host start and stop."""
        log, offset, look_until = self.world.pve / "requests.jsonl", 0, 0
        while not self.ending.is_set():
            requests, offset = read_lines(log, offset)
            for request in requests:
                # Only requests that may have changed power states are a reason to look at them.
                if request["method"] != "GET" and re.search(r"/qemu(/\d+(/status/.*|/clone|/migrate)?)?$", request["path"]):
                    look_until = time.monotonic() + 1.5
                await self.power(request)
            if time.monotonic() < look_until:
                await self.compare()
            for guest in list(self.running.values()):
                if guest.listens_as and guest.listens_as != self.listens_as(guest):
                    await self.listen(guest)
            await asyncio.sleep(0.05)
        for vmid in list(self.running):
            await self.end(vmid)

    async def power(self, request):
        """A stop and a start may both lie between two looks at the power states."""
        found = re.fullmatch(r"/nodes/[^/]+/qemu/(\d+)/status/(start|stop|shutdown|reset|reboot)", request["path"])
        if not found or request["method"] != "POST" or request["status"] != 200:
            return
        vmid, action = int(found[1]), found[2]
        self.log(vmid, "power", action)
        if action == "start":
            # Its guest may have been seen running before this line was written.
            self.leaving.discard(vmid)
            return
        await self.end(vmid)
        if action in ("stop", "shutdown"):
            self.leaving.add(vmid)

    async def compare(self):
        states = await asyncio.to_thread(self.world.power_states)
        if states is None:
            return
        for vmid, running in states.items():
            if not running:
                self.leaving.discard(vmid)
            if running and vmid not in self.running and vmid not in self.leaving:
                vm = self.world.vm(vmid)
                guest = Guest(vmid, vm.config.get("name", ""), boots_from(vm, vm.config))
                self.running[vmid] = guest
                self.log(vmid, "boot", guest.boots)
                # Beside this loop: meanwhile other VMs may be stopped.
                self.booting[vmid] = asyncio.create_task(self.boot(guest, vm, vm.config))
            if not running:
                await self.end(vmid)
        for vmid in set(self.running) - set(states):
            await self.end(vmid)

    async def end(self, vmid):
        boot = self.booting.pop(vmid, None)
        if boot:
            boot.cancel()
            await asyncio.wait([boot])
        guest = self.running.pop(vmid, None)
        if guest:
            await self.close(guest)

    async def close(self, guest):
        if guest.server:
            guest.server.close()
            with contextlib.suppress(Exception):
                await asyncio.wait_for(guest.server.wait_closed(), 0.5)
            guest.server = None

    async def boot(self, guest, vm, config):
        vmid = guest.vmid
        output = self.world.pve / "run" / str(vmid) / "serial0.out"
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_bytes(self.behaviour(guest).console)
        await asyncio.sleep(BOOT_SECONDS)
        if guest.boots == "installer":
            seed = await asyncio.to_thread(seed_of, vm, config)
            if seed:
                configure_from_seed(guest, seed, self.world.reported_by_agent(vmid))
            else:
                self.log(vmid, "no seed")
        elif guest.boots == "installed":
            disk = vm.disk
            disk.boots += 1
            if disk.instance is not None:
                await asyncio.to_thread(set_up, disk, vm, config, self.world.reported_by_agent(vmid))
            vm.disk = disk
            guest.address, guest.authorized_keys, guest.host_keys = disk.address, disk.authorized_keys, disk.host_keys
        if guest.address and guest.host_keys:
            await self.listen(guest)

    def listens_as(self, guest):
        """What has to be another server when it changes."""
        behaviour = self.behaviour(guest)
        return behaviour.silence in ("refuse", "hang") and behaviour.silence, behaviour.host_keys

    async def listen(self, guest):
        behaviour = self.behaviour(guest)
        guest.listens_as = self.listens_as(guest)
        await self.close(guest)
        if behaviour.silence == "refuse":
            return
        host = [self.world.outside(address) for address in guest.address.split()]
        for _ in range(20):
            try:
                if behaviour.silence == "hang":
                    guest.server = await asyncio.start_server(lambda *_streams: self.hang(guest), host, self.world.ssh_port)
                else:
                    guest.server = await asyncssh.listen(
                        host,
                        self.world.ssh_port,
                        server_host_keys=[asyncssh.import_private_key(key) for key in behaviour.host_keys or guest.host_keys],
                        authorized_client_keys=asyncssh.import_authorized_keys("\n".join(guest.authorized_keys) + "\n"),
                        process_factory=lambda process: self.serve(guest, process),
                        encoding=None,
                        login_timeout=60,
                    )
            except OSError as error:
                # The server of the VM's run before may not have let go of the address yet.
                self.log(guest.vmid, "address in use", str(error))
                await asyncio.sleep(0.2)
            else:
                self.log(guest.vmid, "listening", " ".join(host))
                return

    async def hang(self, guest):
        self.log(guest.vmid, "asked")
        await asyncio.sleep(3600)

    # --- commands -----------------------------------------------------------------------------------

    async def serve(self, guest, process):
        try:
            await self.answer(guest, process)
        except (ConnectionError, asyncssh.Error, asyncio.CancelledError):
            raise
        except Exception:
            self.unknown.append(traceback.format_exc())
            process.exit(99)

    async def answer(self, guest, process):
        behaviour = self.behaviour(guest)
        command = process.command or ""
        reads = command in ("exec sh", "exec sudo -n sh", "simulated files", "tar -C / -x")
        given = await process.stdin.read() if reads else b""
        if behaviour.silence == "stall":
            await asyncio.sleep(3600)
        output, error, code = await self.result(guest, behaviour, command, given)
        block = b"A" * 65536
        for _ in range(-(-behaviour.flood // len(block))):
            process.stdout.write(block)
            await process.stdout.drain()
        process.stdout.write(output)
        process.stderr.write(error)
        await process.stdout.drain()
        process.exit(code)

    async def result(self, guest, behaviour, command, given):
        """Standard output, standard error and exit code of a command."""
        vm = self.world.vm(guest.vmid)
        words = command.split(" ")
        phase = words[1] if words[0] == "simulated" else "release" if b"umount -Rv /mnt" in given else None
        if phase in behaviour.before:
            await asyncio.to_thread(behaviour.before[phase])
            if self.running.get(guest.vmid) is not guest:
                raise ConnectionResetError  # it was stopped meanwhile
        if phase in behaviour.fails:
            return b"", b"it failed, as the test asked for\n", 1
        if words[0] == "simulated":
            getattr(self, f"phase_{phase}")(guest, vm, *words[2:], given=given)
            return b"", b"", 0
        if b"nixos-deploy" in given or b"path-info" in given:
            return await self.deployment(guest, vm, behaviour, given)
        if command == "tar -C / -x":
            self.log(guest.vmid, "copied")
            return b"", b"", 0
        if b"nixos-proxmox host key " in given:
            return self.host_keys(vm, behaviour, read=b"cat " in given), b"", 0
        if b"os-release:" in given:
            system = INSTALLER_SYSTEM if guest.boots == "installer" else vm.disk.system
            release = behaviour.os_release or (INSTALLER if guest.boots == "installer" else INSTALLED)
            facts = f"kernel=Linux 6.12.1 x86_64\nhostname={behaviour.hostname}\nsystem={behaviour.running_system or system}\n"
            return f"{facts}os-release:\n{release}".encode() + b"X" * behaviour.flood_facts, b"", 0
        if b"/nix/var/nix/profiles/system" in given:
            return (behaviour.installed_system or vm.disk.system).encode() + b"\n", b"", 0
        if b"umount -Rv /mnt" in given:
            return b"", behaviour.release_error.encode(), int(bool(behaviour.release_error))
        if b"list-units --failed" in given:
            return behaviour.failed_units.encode(), b"", 0
        if b"nixos-install|" in given:
            return b"", b"", 1  # no installation runs there
        if b"mountpoint -q /mnt" in given:
            return b"", b"", int(guest.boots != "installer")
        if b"nix-command config show" in given:
            return b"substitute = false\n", b"", 0
        if b"df -Pk /nix/store" in given:
            return b"store=1000000000\ndisks=8000000000\nmemory=2000000000\n", b"", 0
        if command in ("true", "sudo -n true", "exit 0"):
            return b"", b"", 0
        self.unknown.append(f"{command} {given.decode(errors='replace')}")
        return b"", b"the simulated guest does not know this command\n", 127

    async def deployment(self, guest, vm, behaviour, given):
        """What nixos_deploy asks: its script is not run, but comes to the end that the test wants."""
        if b"booted-system" in given:
            facts = {"current": vm.disk.system, "booted": vm.disk.system, "profile": vm.disk.system, "generation": "system-1-link"}
            facts |= {"boot": f"boot-{vm.disk.boots}", "unit": "inactive", "system": f"system-1-link {vm.disk.system}", "end": ""}
            return "".join(f"{name}={value}\n" for name, value in facts.items()).encode(), b"", 0
        if b"systemd-run" in given:
            if "deploy" in behaviour.before:
                await asyncio.to_thread(behaviour.before["deploy"])
            if "deploy" in behaviour.fails:
                self.deployed[guest.vmid] = "undone units failed: nginx.service"
                return b"", b"", 0
            disk = vm.disk
            disk.system = re.search(rb"activate.sh /run/\S+ \S+ '([^']*)'", given)[1].decode()
            vm.disk = disk
            self.deployed[guest.vmid] = "committed"
            self.log(guest.vmid, "deployed", disk.system)
            return b"", b"", 0
        if b"printf 'state=" in given:
            state = self.deployed.get(guest.vmid, "")
            return f"state={state}\nunit=inactive\n\noutput:\nactivating the configuration...\n".encode(), b"", 0
        return b"", b"", int(b"path-info" in given)

    def phase_format(self, guest, vm, given):
        disk = vm.disk
        if (disk.boots or disk.data) and guest.vmid not in self.given_up:
            self.losses.append((guest.vmid, disk))
        # A careless flake formats every disk that the installer sees.
        for volume in vm.other_volumes.values():
            with volume.open("r+b") as file:
                file.write(b"formatted")
        vm.disk = Disk(formats=disk.formats + 1)
        self.log(guest.vmid, "format")

    def host_keys(self, vm, behaviour, *, read):
        """What the question for a machine's host keys prints."""
        printed = ""
        for key in vm.disk.host_keys:
            kind = asyncssh.import_private_key(key).get_algorithm().removeprefix("ssh-")
            printed += f"nixos-proxmox host key ssh_host_{kind}_key\n{key if read else ''}"
        return printed.encode()

    def phase_files(self, guest, vm, given):
        guest.files = given

    def phase_install(self, guest, vm, system, given):
        disk = vm.disk
        disk.system, disk.address = system, guest.address
        disk.host_keys = [text.decode() for path, text in tree(guest.files).items() if re.search(r"/etc/ssh/ssh_host_\w+_key$", f"/{path}")]
        disk.authorized_keys = [self.world.login_key_public]
        vm.disk = disk
        self.log(guest.vmid, "installed", system)


def read_lines(path, offset):
    """The complete lines after `offset` as JSON, and where they end."""
    if not path.exists():
        return [], offset
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read()
    end = data.rfind(b"\n") + 1
    return [json.loads(line) for line in data[:end].splitlines()], offset + end


def tree(archive):
    """The files of a tar archive, by path."""
    if not archive:
        return {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def boots_from(vm, config):
    """What the VM boots: the first entry of its boot order that holds something bootable."""
    order = re.search(r"order=([^,]*)", config.get("boot", ""))
    for device in order[1].split(";") if order else ["scsi0", "ide2"]:
        drive = config.get(device, "")
        if "media=cdrom" in drive:
            image = vm.volume(drive)
            if image and not is_seed(image):
                return "installer"
        elif drive and device == vm.boot_device and vm.disk.system:
            return "installed"
    return None


def is_seed(image):
    """Whether it is labelled as a NoCloud seed; its label is in the primary volume descriptor."""
    with image.open("rb") as file:
        return b"cidata" in file.read(36864)[32768:].lower()


def seed_of(vm, config):
    """The files of the NoCloud seed that is attached, by name."""
    for drive in config.values():
        image = vm.volume(drive) if "media=cdrom" in drive else None
        if image and is_seed(image):
            folder = Path(tempfile.mkdtemp(prefix="seed."))
            try:
                command = ["xorriso", "-osirrox", "on", "-indev", image, "-extract", "/", folder / "files"]
                subprocess.run(command, check=True, capture_output=True)
                return {path.name: path.read_text() for path in (folder / "files").iterdir() if path.is_file()}
            finally:
                shutil.rmtree(folder)
    return None


def set_up(disk, vm, config, given_by_network):
    """What cloud-init does at the boot of an installed system: a new instance gets host keys, logins and addresses."""
    seed = seed_of(vm, config)
    if not seed:
        disk.address = " ".join(given_by_network)  # it asks for one by DHCP
        return
    instance = yaml.safe_load(seed["meta-data"])["instance-id"]
    if instance == disk.instance:
        return
    given = Guest(0, "", None)
    configure_from_seed(given, seed, given_by_network)
    disk.instance, disk.address, disk.authorized_keys = instance, given.address, given.authorized_keys
    kept = disk.host_keys if yaml.safe_load(seed["user-data"]).get("ssh_deletekeys") is False else []
    own = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
    disk.host_keys = given.host_keys or kept or [own]


def configure_from_seed(guest, seed, given_by_network):
    """What cloud-init does: host keys, logins and the addresses."""
    user_data = yaml.safe_load(seed["user-data"])
    files = {file["path"]: base64.b64decode(file["content"]).decode() for file in user_data.get("write_files", [])}
    guest.host_keys = [text for path, text in files.items() if re.fullmatch(r"/etc/ssh/ssh_host_\w+_key", path)]
    guest.authorized_keys = [key for user in user_data.get("users", []) for key in user.get("ssh_authorized_keys", [])]
    network = yaml.safe_load(seed.get("network-config", "")) or {}
    guest.address = " ".join([*fixed_addresses(network), *(given_by_network if asks_the_network(network) else [])])


def fixed_addresses(network):
    """The addresses that a network-config of version 1 or 2 gives, IPv4 first."""
    subnets = [subnet for device in network.get("config", []) for subnet in device.get("subnets", [])]
    found = [subnet["address"] for subnet in subnets if "address" in subnet]
    found += [address for device in network.get("ethernets", {}).values() for address in device.get("addresses", [])]
    return sorted((cidr.split("/")[0] for cidr in found), key=lambda address: ":" in address)


def asks_the_network(network):
    """Whether it asks for DHCP or router advertisements."""
    subnets = [subnet for device in network.get("config", []) for subnet in device.get("subnets", [])]
    devices = network.get("ethernets", {}).values()
    return any("address" not in subnet for subnet in subnets) or any(device.get("dhcp4") or device.get("dhcp6") for device in devices)
