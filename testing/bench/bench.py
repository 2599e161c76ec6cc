"""Paired runs of whole processes against one server; prints Markdown tables. Called by bench.sh."""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import results

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "testing/pytest"))

from images import iso_image  # noqa: E402

MODULE = ROOT / "target/dist/proxmox_iso"
VM_MODULE = ROOT / "target/dist/proxmox_nixos_vm"
TESTHOST = ROOT / "target/release/pve-testhost"
SINK = ROOT / "target/release/examples/sink"
PEER = results.PEER / "bin/python"
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
MIB = 1 << 20


def measure(command, cwd, expect):
    """Run a command; wall, user and system seconds, peak memory in MiB.

    The times are of GNU time and its child together (a millisecond more than the child's, to the microsecond);
    the memory is what GNU time tells, since a process forked by Python would start with Python's peak.
    """
    report = pathlib.Path(cwd) / "time"
    env = {**os.environ, "HOME": str(cwd), "XDG_RUNTIME_DIR": "", "XDG_CACHE_HOME": ""}
    full = ["/usr/bin/time", "-q", "-o", str(report), "-f", "%M", *map(str, command)]
    with open(pathlib.Path(cwd) / "output", "w+") as output:
        since = time.monotonic()
        child = subprocess.Popen(full, cwd=cwd, env=env, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(child.pid, 0)
        wall = time.monotonic() - since
        child.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        text = output.read()
    if expect not in text:
        sys.exit(f"bench: {command} answered {text[-2000:]}")
    return wall, used.ru_utime, used.ru_stime, int(report.read_text()) / 1024


class Bench:
    """The sink, and the commands to compare."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.sink = subprocess.Popen([SINK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = json.loads(self.sink.stdout.readline())
        self.count = 0

    def arguments(self, name, values):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(values))
        return path

    def ours(self, src, checksum=None, name=None):
        self.count += 1
        values = {
            "api_host": "127.0.0.1", "api_port": self.endpoint["port"], "tls_fingerprint": self.endpoint["fingerprint"],
            "api_user": "root@pam", "api_token_id": "t", "api_token_secret": "bench-secret",
            "node": "pve", "storage": "local", "src": str(src), "name": name or f"ours-{self.count}.iso",
        }
        if checksum:
            values["checksum"] = checksum
        changed = '"changed":false' if name else '"changed":true'
        return [MODULE, self.arguments("ours", values)], changed

    def curl(self, src):
        url = f"https://127.0.0.1:{self.endpoint['port']}/api2/json/nodes/pve/storage/local/upload"
        form = ["-F", "content=iso", "-F", f"filename=@{src};filename=curl.iso"]
        header = ["-H", "Authorization: PVEAPIToken=root@pam!t=bench-secret"]
        return ["curl", "-sS", "-k", *header, *form, url], "UPID"

    def peer(self, src, toolbelt=True, known=False):
        self.count += 1
        link = self.folder / ("known.iso" if known else f"peer-{self.count}.iso")
        link.unlink(missing_ok=True)
        link.symlink_to(src)
        values = {
            "api_host": "127.0.0.1", "api_port": self.endpoint["port"], "validate_certs": False,
            "api_user": "root@pam", "api_token_id": "t", "api_token_secret": "bench-secret",
            "node": "pve", "storage": "local", "content_type": "iso", "src": str(link), "timeout": 600,
        }
        path = self.arguments("peer", {"ANSIBLE_MODULE_ARGS": values})
        hide = "" if toolbelt else "sys.modules['requests_toolbelt'] = None; "
        code = (
            f"import sys, runpy; {hide}sys.argv = ['proxmox_template', {str(path)!r}]; "
            "runpy.run_module('ansible_collections.community.proxmox.plugins.modules.proxmox_template', run_name='__main__')"
        )
        return [PEER, "-W", "ignore", "-c", code], '"changed": false' if known else '"changed": true'

    def compare(self, title, candidates, runs=RUNS):
        """Run all candidates in turn, `runs` times; medians, and ratios to the first from the pairs."""

        def once(make):
            command, expect = make()
            return measure(command, self.folder, expect)

        tables(title, {name: lambda make=make: once(make) for name, make in candidates.items()}, runs)


class Vms:
    """A test host with simulated guests, empty, and the two modules that make VMs on it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def __enter__(self):
        self.data = tempfile.TemporaryDirectory(dir=self.folder)
        command = [TESTHOST, "serve", "--data", self.data.name, "--listen", "127.0.0.1:0", "--accel", "none"]
        self.host = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        endpoint = pathlib.Path(self.data.name) / "endpoint.json"
        until = time.monotonic() + 60
        while not (endpoint.exists() and endpoint.stat().st_size):
            if time.monotonic() > until or self.host.poll() is not None:
                sys.exit("bench: the test host did not start")
            time.sleep(0.05)
        self.endpoint = json.loads(endpoint.read_text())
        return self

    def __exit__(self, *_):
        self.host.terminate()
        self.host.wait(timeout=30)
        self.data.cleanup()

    def command(self, name, values):
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps(values))
        return path

    def vm(self, vmid):
        keys = ("api_host", "api_port", "api_user", "api_token_id", "api_token_secret")
        machine = {"node": "pve", "name": f"vm{vmid}", "vmid": vmid, "memory": 512, "cores": 1, "state": "present"}
        hardware = {"scsihw": "virtio-scsi-pci", "scsi": {"scsi0": "local:1"}, "net": {"net0": "virtio,bridge=vmbr0"}}
        return {key: self.endpoint[key] for key in keys} | machine | hardware

    def ours(self, vmid, changed):
        values = self.vm(vmid) | {"tls_fingerprint": self.endpoint["tls_fingerprint"]}
        return [VM_MODULE, self.command("ours", values)], f'"changed":{str(changed).lower()}'

    def peer(self, vmid, changed):
        # It wants a token's name where the host tells its full identifier.
        values = self.vm(vmid) | {"validate_certs": False, "api_token_id": self.endpoint["api_token_id"].split("!")[-1]}
        path = self.command("peer", {"ANSIBLE_MODULE_ARGS": values})
        code = (
            f"import sys, runpy; sys.argv = ['proxmox_kvm', {str(path)!r}]; "
            "runpy.run_module('ansible_collections.community.proxmox.plugins.modules.proxmox_kvm', run_name='__main__')"
        )
        return [PEER, "-W", "ignore", "-c", code], f'"changed": {str(changed).lower()}'


def creates(folder, which, count):
    """So many VMs on an empty host, one process after the other; sums, and the largest peak."""
    with Vms(folder) as host:
        rows = []
        for number in range(count):
            command, expect = getattr(host, which)(100 + number, True)
            rows.append(measure(command, folder, expect))
    walls, users, systems, peaks = zip(*rows)
    return sum(walls), sum(users), sum(systems), max(peaks)


def nothing_to_do(folder, which):
    """The same VM once more; the first time is not measured."""
    with Vms(folder) as host:
        command, expect = host.ours(100, True)
        measure(command, folder, expect)
        command, expect = getattr(host, which)(100, False)
        return measure(command, folder, expect)


def compare_vms(folder):
    """proxmox_nixos_vm against community.proxmox.proxmox_kvm."""
    names = {"community.proxmox.proxmox_kvm": "peer", "proxmox_nixos_vm": "ours"}

    def table(title, measured):
        tables(title, {name: lambda which=which: measured(which) for name, which in names.items()}, RUNS)

    table("Nothing to do: the VM is there", lambda which: nothing_to_do(folder, which))
    table("20 VMs made, one process after the other (sums; the largest peak)", lambda which: creates(folder, which, 20))


def tables(title, candidates, runs):
    """The candidates in turn, `runs` times; medians, and ratios to the first from the pairs, as Markdown."""
    runs_of = {name: [] for name in candidates}
    for _ in range(runs):
        for name, once in candidates.items():
            runs_of[name].append(once())
    print(f"\n### {title}\n")
    print("| process | wall s | user s | sys s | CPU s | peak MiB | wall ratio | CPU ratio | memory ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    base = runs_of[next(iter(runs_of))]
    for name, rows in runs_of.items():
        middle = [statistics.median(column) for column in zip(*rows)]
        cpu = statistics.median(row[1] + row[2] for row in rows)
        pairs = [
            (row[0] / one[0], (row[1] + row[2]) / (one[1] + one[2]), row[3] / one[3])
            for row, one in zip(rows, base)
        ]
        ratios = [statistics.median(column) for column in zip(*pairs)]
        wall, user, system, peak = middle
        figures = dict(zip(("wall_ratio", "cpu_ratio", "peak_ratio"), ratios))
        results.add("process", title, name, wall=wall, user=user, sys=system, cpu=cpu, peak=peak, **figures)
        ratios = " | ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"| {name} | {wall:.3f} | {user:.3f} | {system:.3f} | {cpu:.3f} | {peak:.1f} | {ratios} |")
    sys.stdout.flush()


def image(folder, mib):
    """An ISO image without holes, of data that does not repeat at once; and its checksum by sha256sum."""
    path = pathlib.Path(folder) / f"image-{mib}.iso"
    block = os.urandom(8 * MIB)
    with open(path, "wb") as file:
        for _ in range(mib // 8):
            file.write(block)
        file.seek(0)
        file.write(iso_image(b""))
    digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
    return path, f"sha256:{digest}"


def main():
    with_peer = os.environ.get("BENCH_PEER", "1") == "1"
    sizes = [int(os.environ.get("BENCH_SIZE", "1024"))] + ([8192] if os.environ.get("BENCH_FULL") == "1" else [])
    results.header()
    print(f"{RUNS} runs in turn, medians; ratios are medians of pairs")
    with tempfile.TemporaryDirectory(dir=ROOT / ".cache") as folder:
        bench = Bench(folder)
        try:
            for mib in sizes:
                src, checksum = image(folder, mib)
                candidates = {
                    "curl -F": lambda: bench.curl(src),
                    "proxmox_iso, checksum given": lambda: bench.ours(src, checksum),
                    "proxmox_iso, hashed first": lambda: bench.ours(src),
                }
                if with_peer:
                    candidates["community.proxmox, requests_toolbelt"] = lambda: bench.peer(src)
                bench.compare(f"Upload of {mib} MiB", candidates, RUNS if mib <= 2048 else min(RUNS, 3))
                src.unlink()
            if with_peer:
                src, checksum = image(folder, 248)
                bench.compare(
                    "Upload of 248 MiB (without requests_toolbelt the peer refuses more than 256)",
                    {
                        "curl -F": lambda: bench.curl(src),
                        "proxmox_iso, checksum given": lambda: bench.ours(src, checksum),
                        "community.proxmox, no requests_toolbelt": lambda: bench.peer(src, toolbelt=False),
                    },
                )
                command, expect = bench.ours(src, checksum)
                measure(command, bench.folder, expect)
                known = f"ours-{bench.count}.iso"
                command, _ = bench.peer(src, known=True)
                measure(command, bench.folder, '"changed": true')
                bench.compare(
                    "Nothing to do: the image is there",
                    {
                        "community.proxmox": lambda: bench.peer(src, known=True),
                        "proxmox_iso": lambda: bench.ours(src, checksum, name=known),
                    },
                )
            if with_peer:
                compare_vms(bench.folder)
        finally:
            bench.sink.stdin.close()
            bench.sink.wait(timeout=10)


if __name__ == "__main__":
    main()
