"""One play of many hosts, from empty and again, against ten simulated nodes with 1,000 VMs. Called by bench-scale.sh."""

import collections
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time

import results
from cluster import NODES, Cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = ROOT / os.environ["BENCH_HOST"] / "pve-testhost"
MODULE = ROOT / os.environ["BENCH_BIN"] / "proxmox_nixos_vm"
PEER = results.PEER / "bin"
COUNT = int(os.environ.get("BENCH_SCALE_HOSTS", "200"))
FORKS = 50


def play(folder, bin_dir, task, library=None):
    """Run one task for all hosts; wall and CPU seconds of ansible and its modules, and how many hosts changed and failed."""
    hosts = {f"web{n:03}": {"number": n} for n in range(COUNT)}
    (folder / "hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}))
    (folder / "ansible.cfg").write_text("")
    (folder / "play.json").write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": [task]}]))
    env = {
        **os.environ, "HOME": str(folder), "XDG_RUNTIME_DIR": "", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_CONFIG": str(folder / "ansible.cfg"),
        "ANSIBLE_LIBRARY": str(library or ""), "ANSIBLE_PYTHON_INTERPRETER": str(bin_dir / "python"), "PYTHONWARNINGS": "ignore",
    }
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    since = time.monotonic()
    command = [bin_dir / "ansible-playbook", "-i", folder / "hosts.json", "-f", str(FORKS), folder / "play.json"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    wall = time.monotonic() - since
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    recap = re.findall(r"changed=(\d+) +unreachable=\d+ +failed=(\d+)", done.stdout)
    if len(recap) != COUNT:
        sys.exit(f"bench: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    changed, failed = (sum(int(row[n]) for row in recap) for n in (0, 1))
    if failed:
        print(re.search(r"^fatal: .*", done.stdout, re.MULTILINE).group()[:2000], file=sys.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, changed, failed


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by a signal"))
    results.header()
    print("| play of", COUNT, "hosts, forks", FORKS, "| wall s | CPU s | changed | failed | requests a host | of them reads |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    local = {"delegate_to": "localhost", "name": "The VM"}
    for who in ("proxmox_nixos_vm", "community.proxmox.proxmox_kvm"):
        if who.startswith("community") and os.environ.get("BENCH_PEER", "1") == "0":
            continue
        with tempfile.TemporaryDirectory(prefix="bench-scale.") as name:
            folder = pathlib.Path(name)
            cluster = Cluster(HOST, folder, down=NODES[-1])
            try:
                token = {key: cluster.endpoint[key] for key in ("api_host", "api_port", "api_user", "api_token_id", "api_token_secret")}
                vm = {
                    "name": "{{ inventory_hostname }}", "memory": 2048, "cores": 2, "timeout": 600,
                    "scsi": {"scsi0": "shared:0.01"}, "net": {"net0": "virtio,bridge=vmbr0"},
                }
                if who == "proxmox_nixos_vm":
                    library = folder / "library"
                    library.mkdir()
                    shutil.copy(MODULE, library)
                    subprocess.run(["strip", library / MODULE.name], check=True)
                    task = local | {who: token | vm | {"tls_fingerprint": cluster.endpoint["tls_fingerprint"]}}
                    where = ROOT / ".venv/bin"
                else:
                    # It wants a node, and a VMID: many of it at once all take the same free one.
                    own = {"node": "pve{{ number % 9 + 1 }}", "vmid": "{{ 5000 + number }}", "validate_certs": False}
                    task, library, where = local | {who: token | vm | own}, None, PEER
                cluster.requests()
                for title in ("from empty", "again"):
                    wall, cpu, changed, failed = play(folder, where, task, library)
                    asked = cluster.requests()
                    reads = sum(one["method"] == "GET" for one in asked)
                    row = f"{wall:.1f} | {cpu:.1f} | {changed} | {failed} | {len(asked) / COUNT:.1f} | {reads / COUNT:.1f}"
                    print(f"| {who}, {title} | {row} |", flush=True)
                    figures = {"changed": changed, "failed": failed, "requests": len(asked) / COUNT, "reads": reads / COUNT}
                    results.add("scale", f"{COUNT} hosts, {title}", who, wall=wall, cpu=cpu, **figures)
                    nodes = collections.Counter(one["path"].split("/")[2] for one in asked if one["method"] == "POST" and one["path"].endswith("/qemu"))
                    if nodes:
                        print("made on:", dict(nodes), file=sys.stderr)
                    time.sleep(11)
            finally:
                cluster.end()


if __name__ == "__main__":
    main()
