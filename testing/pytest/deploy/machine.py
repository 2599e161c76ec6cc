"""An installed NixOS, as far as nixos_deploy asks: an SSH server that runs commands in a namespace, and systems that are scripts."""

import asyncio
import contextlib
import os
import subprocess
import threading
from pathlib import Path

import asyncssh

HERE = Path(__file__).resolve().parent
HASH = "0123456789abcdfghijklmnpqrsvwxyz"

# A system. `hook` is what else its activation does.
SWITCH = """#!/bin/sh
system={system}
echo "$1 {name}" >>"$LAB/done"
case $1 in
test)
  echo "activating the configuration..."
  ln -sfn "$system" /run/current-system.new && mv -fT /run/current-system.new /run/current-system
  {hook}
  ;;
boot) {boot_hook} ;;
dry-activate) echo "would restart the following units: {name}.service" ;;
esac
"""


async def pump(source, sink, end=True):
    """Pass on what comes, while it comes: Nix talks to the machine."""
    with contextlib.suppress(OSError, asyncssh.Error):
        while block := await source.read(65536):
            sink.write(block)
            await sink.drain()
    if end:
        sink.close()


class Machine:
    """It is started with the system `one`, as its generation 1."""

    def __init__(self, path):
        self.path = path
        for name in ("root", "run", "nix/var/nix/profiles", "store", "tools"):
            (path / name).mkdir(parents=True)
        for name in ("systemctl", "systemd-run", "nix-env", "nix"):
            (path / "tools" / name).symlink_to(HERE / "tools.sh")
        (path / "os-release").write_text('ID=nixos\nVERSION_ID="26.05"\nPRETTY_NAME="NixOS 26.05"\n')
        (path / "boot_id").write_text("boot-1\n")
        for name in ("done", "nix.log", "failed-units"):
            (path / name).write_text("")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path / "key"], check=True)
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        one = self.system("one")
        (self.profile.parent / "system-1-link").symlink_to(one)
        self.profile.symlink_to("system-1-link")
        for link in ("current-system", "booted-system"):
            (path / "run" / link).symlink_to(one)
        self.started = threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()
        assert self.started.wait(10)

    @property
    def profile(self):
        return self.path / "nix/var/nix/profiles/system"

    def system(self, name, hook=":", boot_hook=":", kernel="k1", packages=()):
        """Put a system into the store; it becomes what the flake builds."""
        path = self.path / "store" / f"{HASH}-nixos-system-{name}"
        (path / "bin").mkdir(parents=True)
        (path / "etc").mkdir()
        (path / "etc/hostname").write_text("guest\n")
        switch = path / "bin/switch-to-configuration"
        switch.write_text(SWITCH.format(system=path, name=name, hook=hook, boot_hook=boot_hook))
        switch.chmod(0o755)
        for part in ("kernel", "initrd", "kernel-modules"):
            file = self.path / "store" / f"{kernel}-{part}"
            file.touch()
            (path / part).symlink_to(file)
        rows = [f"/nix/store/{HASH}-{package}\t{size}" for package, size in packages]
        (path / "closure").write_text("\n".join([*rows, f"{path}\t1000"]) + "\n")
        (self.path / "flake").write_text(f"{path}\n")
        return path

    def serve(self):
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.listen())
        self.started.set()
        self.loop.run_forever()

    async def listen(self):
        machine = self

        class Server(asyncssh.SSHServer):
            def connection_made(self, connection):
                if (machine.path / "unreachable").exists():
                    connection.abort()

        self.server = await asyncssh.listen(
            "127.0.0.1", 0, server_factory=Server, server_host_keys=[self.host_key], process_factory=self.run, encoding=None,
            authorized_client_keys=asyncssh.import_authorized_keys((self.path / "key.pub").read_text()),
        )
        self.port = self.server.get_port()

    async def run(self, process):
        command = ["unshare", "--user", "--map-root-user", "--mount", "sh", HERE / "enter.sh", self.path, process.command or "sh"]
        try:
            child = await asyncio.create_subprocess_exec(*command, stdin=-1, stdout=-1, stderr=-1)
            given = asyncio.create_task(pump(process.stdin, child.stdin))
            await asyncio.gather(pump(child.stdout, process.stdout, end=False), pump(child.stderr, process.stderr, end=False))
            given.cancel()
            process.exit(await child.wait())
        except (OSError, asyncssh.Error):
            process.close()

    def stop(self):
        self.loop.call_soon_threadsafe(self.server.close)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        if (self.path / "unit.pid").exists():
            pid = int((self.path / "unit.pid").read_text())
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, 9)

    def options(self, **more):
        known = self.host_key.export_public_key().decode().strip()
        return {
            "host": "127.0.0.1", "port": self.port, "host_keys": [known], "private_key_file": str(self.path / "key"),
            "flake": ".#web1", "tools_path": str(self.path / "tools"), "confirm_timeout": 4, "timeout": 60,
        } | more

    def done(self):
        """What was done on it since the last call."""
        lines = (self.path / "done").read_text().splitlines()
        (self.path / "done").write_text("")
        return [line for line in lines if not line.startswith("copied")]

    def runs(self):
        return self.name(self.path / "run/current-system")

    def boots(self):
        return self.name(self.profile)

    def name(self, link):
        return link.resolve().name.removeprefix(f"{HASH}-nixos-system-")

    def left_behind(self):
        directory = self.path / "run/nixos-deploy"
        return sorted(entry.name for entry in directory.iterdir()) if directory.exists() else []
