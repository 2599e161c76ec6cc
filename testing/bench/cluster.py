"""A test host with 1,000 VMs on ten simulated nodes."""

import concurrent.futures
import json
import ssl
import subprocess
import sys
import time
import urllib.request

NODES = [f"pve{number}" for number in range(1, 11)]
GIB = 1 << 30


class Cluster:
    """A test host with a hundred VMs on each node. `down` names a node that is offline, `options` more lines of each VM's file."""

    def __init__(self, host, folder, down=None, options=""):
        self.data = folder / "pve"
        self.vms = {}
        for n, node in enumerate(NODES):
            configs = (self.data if n == 0 else self.data / "nodes" / node) / "qemu-server"
            configs.mkdir(parents=True)
            for vmid in range(1000 + 100 * n, 1100 + 100 * n):
                text = f"cores: 2\nmemory: 2048\nname: old{vmid}\nnet0: virtio=BC:24:11:00:{vmid >> 8:02X}:{vmid & 255:02X},bridge=vmbr0\n"
                (configs / f"{vmid}.conf").write_text(text + options)
                self.vms[vmid] = node
        facts = {node: {"maxmem": 64 * GIB, "mem": (20 + 2 * n) * GIB} for n, node in enumerate(NODES)}
        if down:
            facts[down]["offline"] = True
        (self.data / "nodes.json").write_text(json.dumps(facts))
        command = [host, "serve", "--data", self.data, "--nodes", ",".join(NODES), "--accel", "none"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        file = self.data / "endpoint.json"
        while not file.exists():
            if self.process.poll() is not None:
                sys.exit("bench: the test host ended")
            time.sleep(0.05)
        self.endpoint = json.loads(file.read_text())
        time.sleep(11)  # pvestatd's round: until then no VM has a name in the list of the whole cluster

    def api(self, method, path):
        """The answer to a request."""
        user, name, secret = (self.endpoint[key] for key in ("api_user", "api_token_id", "api_token_secret"))
        url = f"https://127.0.0.1:{self.endpoint['api_port']}/api2/json{path}"
        request = urllib.request.Request(url, method=method, headers={"Authorization": f"PVEAPIToken={user}!{name}={secret}"})
        with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=60) as answer:
            return json.load(answer)["data"]

    def start_all(self):
        """Start all VMs, each with an address that its guest agent reports, and wait until the list of the cluster has them running."""
        addresses = {str(vmid): {"addresses": [f"192.0.{vmid >> 8}.{vmid & 255}/24"]} for vmid in self.vms}
        (self.data / "guests.json").write_text(json.dumps(addresses))
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda vm: self.api("POST", f"/nodes/{vm[1]}/qemu/{vm[0]}/status/start"), self.vms.items()))
        until = time.monotonic() + 300
        while any(vm["status"] != "running" for vm in self.api("GET", "/cluster/resources?type=vm")):
            if time.monotonic() > until:
                sys.exit("bench: the VMs did not start")
            time.sleep(1)

    def requests(self):
        """Every request since the last call."""
        lines = (self.data / "requests.jsonl").read_text().splitlines()
        (self.data / "requests.jsonl").write_text("")
        return [json.loads(line) for line in lines]

    def end(self):
        self.process.terminate()
        self.process.wait(timeout=60)
