"""The inventory plugin against that of community.proxmox: 1,000 running VMs on ten simulated nodes. Called by bench-inventory.sh."""

import json
import os
import pathlib
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import results
import yaml
from cluster import Cluster

ROOT = pathlib.Path(__file__).resolve().parents[2]
HOST = ROOT / os.environ["BENCH_HOST"] / "pve-testhost"
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
WITH_PEER = os.environ.get("BENCH_PEER", "1") == "1"
FACTS = os.environ.get("BENCH_FACTS") == "1"
# Both plugins under the same Ansible.
ANSIBLE = (results.PEER if WITH_PEER else ROOT / ".venv") / "bin/ansible-inventory"


def list_hosts(folder, file, config):
    """`ansible-inventory --list`; its wall and CPU seconds."""
    path = folder / file
    path.write_text(yaml.safe_dump(config))
    taken = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PROXMOX_"))}
    env = taken | {
        "HOME": str(folder), "XDG_RUNTIME_DIR": "", "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "PYTHONWARNINGS": "ignore",
        "ANSIBLE_INVENTORY_ENABLED": f"{config['plugin']}",
    }
    before, since = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([ANSIBLE, "-i", path, "--list"], cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - since, resource.getrusage(resource.RUSAGE_CHILDREN)
    hosts = json.loads(done.stdout)["_meta"]["hostvars"] if done.returncode == 0 else {}
    if len(hosts) != 1000:
        sys.exit(f"bench: {config['plugin']} lists {len(hosts)} hosts: {done.stderr[-2000:]}")
    return hosts, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def configurations(endpoint):
    """The file and the configuration of each row, by what is read and by plugin."""
    keys = ("api_host", "api_port", "api_user", "api_token_id", "api_token_secret", "tls_fingerprint")
    ours = {"plugin": "nixos_proxmox"} | {key: endpoint[key] for key in keys}
    peer = {
        "plugin": "community.proxmox.proxmox", "url": f"https://127.0.0.1:{endpoint['api_port']}", "validate_certs": False, "exclude_nodes": True,
        "user": endpoint["api_user"], "token_id": endpoint["api_token_id"].split("!")[-1], "token_secret": endpoint["api_token_secret"],
    }
    rows = {
        ("the list", "community.proxmox.proxmox"): ("x.proxmox.yml", peer),
        ("the list", "nixos_proxmox"): ("x.nixos_proxmox.yml", ours | {"address_sources": []}),
        ("the list with agents' addresses", "nixos_proxmox"): ("x.nixos_proxmox.yml", ours),
        ("the list with addresses and facts", "nixos_proxmox"): ("x.nixos_proxmox.yml", ours | {"want_facts": True}),
    }
    if FACTS:
        facts = {"want_facts": True, "facts_concurrency": 8, "api_timeout": 60}
        rows["the list with addresses and facts", "community.proxmox.proxmox"] = ("x.proxmox.yml", peer | facts)
    return {key: row for key, row in rows.items() if WITH_PEER or key[1] == "nixos_proxmox"}


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: ended by a signal"))
    results.header()
    with tempfile.TemporaryDirectory(prefix="bench-inventory.") as name:
        folder = pathlib.Path(name)
        cluster = Cluster(HOST, folder, options="agent: 1\ntags: web;prod\n")
        try:
            cluster.start_all()
            rows = configurations(cluster.endpoint)
            measured = {key: [] for key in rows}
            requests = {}
            for turn in range(RUNS):
                for key, (file, config) in rows.items():
                    # Minutes each: one run.
                    if turn > 0 and config.get("facts_concurrency"):
                        continue
                    cluster.requests()
                    hosts, *times = list_hosts(folder, file, config)
                    measured[key].append(times)
                    requests[key] = len(cluster.requests())
                    if key[1] == "nixos_proxmox" and config.get("address_sources") != [] and not all("ansible_host" in host for host in hosts.values()):
                        sys.exit("bench: a host has no address")
        finally:
            cluster.end()
    print("| what is read, 1,000 VMs | plugin | wall s | CPU s | requests | runs |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for (what, plugin), times in measured.items():
        wall, used = (statistics.median(column) for column in zip(*times))
        print(f"| {what} | {plugin} | {wall:.2f} | {used:.2f} | {requests[what, plugin]} | {len(times)} |", flush=True)
        results.add("inventory", what, plugin, wall=wall, cpu=used, requests=requests[what, plugin], runs=len(times))


if __name__ == "__main__":
    main()
