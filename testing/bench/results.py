"""What the benchmarks have in common: the machine they ran on, and their figures as JSON lines for plot.py.

BENCH_RESULTS is the file of figures (default target/bench.jsonl). Each run adds to it; a later row replaces an earlier one
with the same `bench`, `case` and `process`.
"""

import json
import os
import pathlib
import platform
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PEER = ROOT / ".cache/bench-venv"
FILE = pathlib.Path(os.environ.get("BENCH_RESULTS", ROOT / "target/bench.jsonl"))


def add(bench, case, process, **figures):
    """Append a row: times in seconds, memory in MiB."""
    rounded = {name: round(value, 4) for name, value in figures.items()}
    write({"bench": bench, "case": case, "process": process, **rounded})


def header():
    """Print the machine and the versions that are compared, and append them as a row."""
    facts = {"cpu": cpu_model(), "cpus": os.cpu_count(), "sha": has_sha_instructions()}
    facts |= {"curl": curl_version(), "community.proxmox": peer_version()}
    print(f"{platform.system()} {platform.machine()}, {facts['cpus']} CPUs: {facts['cpu']}, {'with' if facts['sha'] else 'without'} SHA instructions")
    print(f"curl {facts['curl']}, community.proxmox {facts['community.proxmox'] or 'left out'}\n", flush=True)
    write({"bench": "machine", **facts})


def read(path=FILE):
    """The rows of a file, by bench, case and process, and the last description of the machine."""
    rows, machine = {}, {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if row["bench"] == "machine":
            machine = row
        else:
            rows[row["bench"], row["case"], row["process"]] = row
    return rows, machine


def write(row):
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("a") as file:
        file.write(json.dumps(row) + "\n")


def cpu_model():
    found = re.search(r"^model name\s*: (.*)$", cpuinfo(), re.MULTILINE)
    return found[1] if found else platform.processor() or "unknown CPU"


def has_sha_instructions():
    """x86 lists `sha_ni` in its flags, aarch64 `sha2` in its features."""
    found = re.search(r"^(?:flags|Features)\s*: (.*)$", cpuinfo(), re.MULTILINE)
    return bool(found and {"sha_ni", "sha2"} & set(found[1].split()))


def cpuinfo():
    path = pathlib.Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def curl_version():
    return subprocess.run(["curl", "--version"], capture_output=True, text=True, check=True).stdout.split()[1]


def peer_version():
    """The version of the installed community.proxmox; None without it."""
    if os.environ.get("BENCH_PEER", "1") != "1":
        return None
    manifest = peer_collections() / "ansible_collections/community/proxmox/MANIFEST.json"
    return json.loads(manifest.read_text())["collection_info"]["version"]


def peer_collections():
    """The directory that ANSIBLE_COLLECTIONS_PATH takes."""
    return next(PEER.glob("lib/python3*/site-packages"))
