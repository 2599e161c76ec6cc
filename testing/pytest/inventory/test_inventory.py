"""The inventory plugin under the real Ansible, as users type it, on a test host with two nodes."""

import contextlib
import json
import os
import shlex
import shutil
import ssl
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
import yaml
from conftest import PROJECT, environment
from machines import wait_until
from project import TESTHOST

PLUGIN = PROJECT / "roles/nixos_vm/inventory_plugins/nixos_proxmox.py"
AGENT = "agent/network-get-interfaces"
# Far longer than any test waits: whoever waits for it is ended by a limit of its own.
FOREVER = 600

VMS = {
    101: {"name": "web1", "node": "pve", "tags": "web;prod", "pool": "prod", "agent": "1", "net0": "virtio=BC:24:11:00:00:01,bridge=vmbr0"},
    102: {"name": "db1", "node": "b", "tags": "db;prod", "agent": "1", "ipconfig0": "ip=192.0.2.52/24,gw=192.0.2.1", "description": "{{ 1 + 1 }}"},
    103: {"name": "off1", "node": "b", "tags": "web"},
    104: {"name": "template1", "node": "pve", "tags": "web"},
    105: {"name": "twin", "node": "pve"},
    106: {"name": "Twin", "node": "b"},
    107: {"name": "localhost", "node": "pve"},
}
RUNNING = [101, 102]


class Cluster:
    """A test host, and the folder of somebody who has an inventory."""

    def __init__(self, path):
        self.path = path
        self.pve = path / "pve"
        self.faults_file = path / "faults.json"
        command = [TESTHOST, "serve", "--data", self.pve, "--nodes", "pve,b", "--accel", "none", "--faults", self.faults_file, "--auth-delay", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(lambda: (self.pve / "endpoint.json").exists(), "the test host", 30)
        self.endpoint = json.loads((self.pve / "endpoint.json").read_text())

    def api(self, method, path, **data):
        form = urllib.parse.urlencode(data)
        request = urllib.request.Request(f"https://127.0.0.1:{self.endpoint['api_port']}/api2/json{path}", method=method, data=form.encode() or None)
        user, name, secret = (self.endpoint[key] for key in ("api_user", "api_token_id", "api_token_secret"))
        request.add_header("Authorization", f"PVEAPIToken={user}!{name}={secret}")
        # The fingerprint is checked by the program, not by this helper.
        with urllib.request.urlopen(request, context=ssl._create_unverified_context(), timeout=60) as answer:
            return json.load(answer)["data"]

    def make(self, vms, running):
        for vmid, options in vms.items():
            options = {"memory": 64, **options}
            self.api("POST", f"/nodes/{options.pop('node')}/qemu", vmid=vmid, **options)
            wait_until(lambda vmid=vmid: self.file(vmid), f"VM {vmid}", 60)
        for vmid in running:
            with_lock_gone = lambda vmid=vmid: "\nlock:" not in self.file(vmid).read_text()  # noqa: E731
            wait_until(with_lock_gone, f"VM {vmid} to be unlocked", 60)
            self.api("POST", f"/nodes/{vms[vmid]['node']}/qemu/{vmid}/status/start")

    def file(self, vmid):
        found = [*self.pve.glob(f"qemu-server/{vmid}.conf"), *self.pve.glob(f"nodes/*/qemu-server/{vmid}.conf")]
        return found[0] if found else None

    def resources(self):
        return {entry["vmid"]: entry for entry in self.api("GET", "/cluster/resources?type=vm")}

    def addresses(self, addresses):
        (self.pve / "guests.json").write_text(json.dumps({str(vmid): {"addresses": list(each)} for vmid, each in addresses.items()}))

    @contextlib.contextmanager
    def faults(self, *rules):
        self.faults_file.write_text(json.dumps(rules))
        try:
            yield
        finally:
            self.faults_file.write_text("[]")

    def requests(self):
        return [json.loads(line) for line in (self.pve / "requests.jsonl").read_text().splitlines()]

    def variables(self, **more):
        names = {"PROXMOX_HOST": "api_host", "PROXMOX_PORT": "api_port", "PROXMOX_USER": "api_user", "PROXMOX_TOKEN_ID": "api_token_id"}
        names |= {"PROXMOX_TOKEN_SECRET": "api_token_secret", "PROXMOX_TLS_FINGERPRINT": "tls_fingerprint"}
        connection = {variable: str(self.endpoint[key]) for variable, key in names.items()}
        variables = {"HOME": str(self.path), **connection, **more}
        return {name: value for name, value in environment(**variables).items() if value is not None}

    def run(self, *command, config=None, name="x.nixos_proxmox.yml", cwd=PROJECT, **more):
        file = self.path / name
        file.write_text(yaml.safe_dump({"plugin": "nixos_proxmox", **(config or {})}))
        return subprocess.run(
            [*command, "-i", file], cwd=cwd, env=self.variables(**more), capture_output=True, text=True, timeout=FOREVER / 2, check=False
        )

    def list(self, config=None, *flags, warns=None, **more):
        """What is listed: hosts with their variables, and groups with their hosts. Without a text, there may be no other warning than that
        of the names."""
        done = self.run("ansible-inventory", "--list", *flags, config=config, **more)
        assert done.returncode == 0, done.stderr
        warnings = " ".join(done.stderr.split())
        for usual in ("VM 107: its name 'localhost' is not safe", "several VMs have the name twin (105, 106)"):
            warnings = warnings.replace(f"[WARNING]: {usual}", "")
        if warns is None:
            assert "[WARNING]" not in warnings, done.stderr
        else:
            assert warns in warnings, done.stderr
        listed = json.loads(done.stdout)
        return listed.pop("_meta")["hostvars"], {name: sorted(group.get("hosts", [])) for name, group in listed.items()}


def shown(value):
    """A text that Ansible itself made; since 2.19 it is in a dict that says that it is not a template."""
    return value["__ansible_unsafe"] if isinstance(value, dict) else value


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.api("POST", "/pools", poolid="prod")
        cluster.make(VMS, RUNNING)
        wait_until(lambda: "\nlock:" not in cluster.file(104).read_text(), "VM 104 to be unlocked", 60)
        cluster.api("POST", "/nodes/pve/qemu/104/template")

        # Names and states are as the nodes broadcast them last.
        def is_known():
            known = cluster.resources()
            named = all(known[vmid].get("name") == vm["name"] for vmid, vm in VMS.items())
            return named and known[104].get("template") == 1 and all(known[vmid]["status"] == "running" for vmid in RUNNING)

        wait_until(is_known, lambda: f"the broadcast: {cluster.resources()}", 90)
        cluster.addresses({101: ["192.0.2.51/24", "2001:db8::51/64"]})
        yield cluster
    finally:
        cluster.process.terminate()
        cluster.process.wait(60)


def test_hosts_groups_and_addresses(cluster):
    hosts, groups = cluster.list()
    assert hosts["web1"] == {
        "ansible_host": "192.0.2.51",
        "proxmox_agent_interfaces": [
            {"name": "lo", "mac-address": "00:00:00:00:00:00", "ip-addresses": ["127.0.0.1/8", "::1/128"]},
            {"name": "eth0", "mac-address": "bc:24:11:00:00:01", "ip-addresses": ["192.0.2.51/24", "2001:db8::51/64"]},
        ],
        "proxmox_name": "web1", "proxmox_node": "pve", "proxmox_pool": "prod", "proxmox_status": "running", "proxmox_tags": "prod;web",
        "proxmox_tags_parsed": ["prod", "web"], "proxmox_template": False, "proxmox_vmid": 101, "proxmox_vmtype": "qemu",
    }
    assert "ansible_host" not in hosts["db1"]
    everybody = ["db1", "off1", "vm_105", "vm_106", "vm_107", "web1"]
    assert sorted(hosts) == everybody
    expected = {
        "proxmox_all_qemu": everybody, "proxmox_all_running": ["db1", "web1"], "proxmox_all_stopped": ["off1", "vm_105", "vm_106", "vm_107"],
        "proxmox_pve_qemu": ["vm_105", "vm_107", "web1"], "proxmox_b_qemu": ["db1", "off1", "vm_106"], "proxmox_pool_prod": ["web1"],
        "proxmox_tag_web": ["off1", "web1"], "proxmox_tag_db": ["db1"], "proxmox_tag_prod": ["db1", "web1"],
    }
    assert {name: hosts for name, hosts in groups.items() if name != "all"} == expected


def test_the_graph(cluster):
    done = cluster.run("ansible-inventory", "--graph", "proxmox_tag_web", config={"group_prefix": "proxmox_"})
    assert done.stdout.splitlines() == ["@proxmox_tag_web:", "  |--web1", "  |--off1"], done.stdout + done.stderr


def test_vms_of_one_name_and_unsafe_names_replace_no_host(cluster):
    listed = cluster.run("ansible-inventory", "--list")
    warnings = " ".join(listed.stderr.split())
    assert "several VMs have the name twin (105, 106); their hosts are called vm_VMID" in warnings
    assert "VM 107: its name 'localhost' is not safe as a host name; its host is called vm_107" in warnings
    # The controller is still the controller.
    done = cluster.run("ansible", "localhost", "-m", "ansible.builtin.debug", "-a", "var=ansible_connection")
    assert '"ansible_connection": "local"' in done.stdout, done.stdout + done.stderr


def test_the_list_is_one_request(cluster):
    before = len(cluster.requests())
    cluster.list({"address_sources": []})
    (request,) = cluster.requests()[before:]
    assert (request["method"], request["path"].partition("?")[0]) == ("GET", "/cluster/resources")


def test_filters(cluster):
    for config, expected in [
        ({"nodes": ["b"]}, ["Twin", "db1", "off1"]),
        ({"tags": ["web", "db"]}, ["db1", "off1", "web1"]),
        ({"pools": ["prod"]}, ["web1"]),
        ({"tags": ["web"], "nodes": ["b"]}, ["off1"]),
        ({"tags": ["prod"], "filters": ["proxmox_status == 'running'", "'db' in proxmox_tags_parsed"]}, ["db1"]),
        ({"filters": ["ansible_host is defined"]}, ["web1"]),
        ({"want_templates": True, "tags": ["web"]}, ["off1", "template1", "web1"]),
    ]:
        hosts, _ = cluster.list(config)
        assert sorted(hosts) == expected, config
    _, groups = cluster.list({"want_templates": True, "tags": ["web"]})
    assert groups["proxmox_all_templates"] == ["template1"] and groups["proxmox_tag_web"] == ["off1", "web1"]


def test_filters_that_are_wrong(cluster):
    cluster.list({"tags": ["wbe", "web"]}, warns="tags: no VM that the caller may see fits 'wbe'")
    hosts, _ = cluster.list({"tags": ["web"], "filters": ["proxmox_pool == 'prod'"]}, warns="cannot evaluate 'proxmox_pool == 'prod'' for off1")
    assert sorted(hosts) == ["web1"]
    done = cluster.run("ansible-inventory", "--list", config={"tags": ["web"], "filters": ["proxmox_pool == 'prod'"], "strict": True})
    assert "for off1" in done.stderr and "web1" not in json.loads(done.stdout)["_meta"]["hostvars"], done.stderr


def test_constructed_groups_and_variables(cluster):
    config = {
        "tags": ["prod"], "strict": True,
        "compose": {"ansible_user": "'root'", "where": "proxmox_node ~ '/' ~ proxmox_vmid", "ansible_host": "'10.0.0.1'"},
        "groups": {"on_b": "proxmox_node == 'b'"},
        "keyed_groups": [{"key": "proxmox_tags_parsed", "prefix": "", "separator": ""}, {"key": "proxmox_pool | default('none')", "prefix": "of"}],
    }
    hosts, groups = cluster.list(config)
    assert {(shown(host["ansible_user"]), shown(host["ansible_host"])) for host in hosts.values()} == {("root", "10.0.0.1")}
    assert {name: shown(host["where"]) for name, host in hosts.items()} == {"web1": "pve/101", "db1": "b/102"}
    assert (groups["on_b"], groups["web"], groups["of_prod"], groups["of_none"]) == (["db1"], ["web1"], ["web1"], ["db1"])
    del config["groups"], config["keyed_groups"]
    done = cluster.run("ansible-inventory", "--list", config=config | {"compose": {"x": "unknown.y"}})
    assert "Could not set x for host" in done.stderr


def test_prefixes(cluster):
    hosts, groups = cluster.list({"tags": ["prod"], "group_prefix": "", "facts_prefix": "pve_"})
    assert hosts["db1"]["pve_vmid"] == 102 and "proxmox_vmid" not in hosts["db1"]
    assert groups["tag_db"] == ["db1"] and "proxmox_tag_db" not in groups


def test_facts_and_the_address_of_the_configuration(cluster):
    hosts, _ = cluster.list({"tags": ["prod"], "want_facts": True, "address_sources": ["agent", "ipconfig"], "prefer_family": "ipv6"})
    assert (hosts["web1"]["ansible_host"], hosts["db1"]["ansible_host"]) == ("2001:db8::51", "192.0.2.52")
    assert hosts["web1"]["proxmox_net0"] == {"virtio": "BC:24:11:00:00:01", "bridge": "vmbr0"}
    assert hosts["db1"]["proxmox_ipconfig0"] == {"ip": "192.0.2.52/24", "gw": "192.0.2.1"}
    assert "proxmox_phase" not in hosts["web1"]


def test_notes_are_never_templates(cluster):
    config = {"tags": ["db"], "want_facts": True, "compose": {"composed": "proxmox_description"}}
    done = cluster.run("ansible", "db1", "-m", "ansible.builtin.debug", "-a", "msg={{ proxmox_description }}/{{ composed }}", config=config)
    assert "{{ 1 + 1 }}/{{ 1 + 1 }}" in done.stdout, done.stdout + done.stderr


def test_notes_are_never_expressions(cluster, tmp_path):
    """There are tasks that evaluate a text which has no braces."""
    marker = tmp_path / "ran"
    cluster.api("PUT", "/nodes/b/qemu/102/config", description=f"lookup('ansible.builtin.pipe', 'touch {marker}') == ''")
    try:
        for task in ["debug: {var: '{{ proxmox_description }}'}", "assert: {that: '{{ proxmox_description }}'}", "debug: {msg: x}\n    when: proxmox_description"]:
            play = tmp_path / "play.yml"
            play.write_text(f"- hosts: db1\n  gather_facts: false\n  connection: local\n  tasks:\n  - ansible.builtin.{task}\n")
            done = cluster.run("ansible-playbook", play, config={"tags": ["db"], "want_facts": True})
            assert "db1" in done.stdout and not marker.exists(), done.stdout + done.stderr
    finally:
        cluster.api("PUT", "/nodes/b/qemu/102/config", description="{{ 1 + 1 }}")


def beside(cluster, groups, *command, config=None):
    """What a command says with another source of the inventory, which Ansible reads before the plugin's."""
    folder = cluster.path / "both"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "a.yml").write_text(yaml.safe_dump(groups))
    return cluster.run(*command, "-i", folder / "a.yml", config=config)


def test_a_vm_with_the_name_of_a_group_does_not_bring_it_along(cluster):
    groups = {"web1": {"hosts": {"real1": {}}}, "db1": {"children": {"proxmox_tag_db": {}}}}
    done = beside(cluster, groups, "ansible-inventory", "--list", config={"tags": ["prod"]})
    listed = json.loads(done.stdout)
    assert listed["proxmox_tag_web"]["hosts"] == ["vm_101"] and listed["proxmox_tag_db"]["hosts"] == ["vm_102"], done.stdout
    warnings = " ".join(done.stderr.split())
    assert "the inventory has a group 'web1', which is the name of a VM, too; the VM's host is called vm_101" in warnings, done.stderr


def test_a_host_of_another_source_keeps_its_address(cluster):
    groups = {"all": {"hosts": {"web1": {"ansible_host": "192.0.2.99"}}}}
    done = beside(cluster, groups, "ansible-inventory", "--list", config={"tags": ["web"]})
    variables = json.loads(done.stdout)["_meta"]["hostvars"]["web1"]
    assert shown(variables["ansible_host"]) == "192.0.2.99" and variables["proxmox_vmid"] == 101, done.stdout


def test_the_phase_of_a_machine_of_the_role(cluster):
    config = {"tags": ["web"], "want_facts": True}
    now = cluster.api("GET", "/nodes/b/qemu/103/config")
    uuid = now["smbios1"].removeprefix("uuid=")
    record = f"v=1 installation={'a' * 32} host=off-host vmid=103 uuid={uuid} generation={now['vmgenid']} phase=done run=01234567"
    state = cluster.path / "state/off-host"
    state.mkdir(parents=True)
    (state / "known_hosts").write_text("192.0.2.53 ssh-ed25519 AAAA\noff-host ssh-ed25519 AAAA\n")
    config["state_root"] = str(cluster.path / "state")
    try:
        cluster.api("PUT", "/nodes/b/qemu/103/config", description=f"mine\n\n<!-- nixos-proxmox: {record} -->")
        hosts, groups = cluster.list(config)
        assert hosts["off1"]["proxmox_phase"] == "done" and groups["proxmox_phase_done"] == ["off1"]
        assert hosts["off1"]["proxmox_description"] == "mine"
        # Under the role's name of the host.
        assert hosts["off1"]["ansible_ssh_common_args"].endswith("/off-host/known_hosts\"' -o StrictHostKeyChecking=yes -o HostKeyAlias=off-host")
        # That of a clone does not count.
        cluster.api("PUT", "/nodes/b/qemu/103/config", description=f"<!-- nixos-proxmox: {record.replace('vmid=103', 'vmid=101')} -->")
        hosts, groups = cluster.list(config)
        assert "proxmox_phase" not in hosts["off1"] and "proxmox_phase_done" not in groups
        assert "ansible_ssh_common_args" not in hosts["off1"]
    finally:
        cluster.api("PUT", "/nodes/b/qemu/103/config", delete="description")


def test_ssh_checks_the_recorded_host_key(cluster):
    state = cluster.path / "a state 50%"
    (state / "web1").mkdir(parents=True)
    (state / "web1/known_hosts").write_text("192.0.2.51 ssh-ed25519 AAAA\n")
    hosts, _ = cluster.list({"tags": ["web"], "state_root": str(state)})
    arguments = shlex.split(hosts["web1"]["ansible_ssh_common_args"])
    assert "ansible_ssh_common_args" not in hosts["off1"]
    shown = subprocess.run(["ssh", "-G", *arguments, "192.0.2.51"], capture_output=True, text=True, check=True).stdout.splitlines()
    assert f"userknownhostsfile {state}/web1/known_hosts" in [line.replace("%%", "%").replace('"', "") for line in shown], shown
    assert "stricthostkeychecking true" in shown
    # It is found there: the key of the file is that of the address.
    found = subprocess.run(["ssh-keygen", "-F", "192.0.2.51", "-f", state / "web1/known_hosts"], capture_output=True, text=True, check=False)
    assert found.returncode == 0
    # Where the role keeps it if nobody says otherwise.
    for root, variables in [("state-home", {"XDG_STATE_HOME": str(cluster.path / "state-home")}), (".local/state", {"XDG_STATE_HOME": None})]:
        shutil.copytree(state, cluster.path / root / "nixos-proxmox")
        hosts, _ = cluster.list({"tags": ["web"]}, **variables)
        assert f"{cluster.path / root}/nixos-proxmox/web1/known_hosts" in hosts["web1"]["ansible_ssh_common_args"]
        shutil.rmtree(cluster.path / root)
    hosts, _ = cluster.list({"tags": ["web"], "state_root": str(state), "known_hosts": False})
    assert "ansible_ssh_common_args" not in hosts["web1"]
    # The path may be a template.
    hosts, _ = cluster.list({"tags": ["web"], "state_root": "{{ lookup('ansible.builtin.env', 'ROOT') }}"}, ROOT=str(state))
    assert "ansible_ssh_common_args" in hosts["web1"]
    # Another VM of its name does not turn the check off.
    (state / "twin").mkdir()
    (state / "twin/known_hosts").write_text("192.0.2.55 ssh-ed25519 AAAA\n")
    hosts, _ = cluster.list({"state_root": str(state)})
    assert "/twin/known_hosts" in hosts["vm_105"]["ansible_ssh_common_args"]


def test_an_agent_that_hangs_holds_up_nobody(cluster):
    with cluster.faults({"method": "GET", "path": f"/nodes/b/qemu/102/{AGENT}", "action": "delay", "seconds": FOREVER}):
        hosts, _ = cluster.list(
            {"tags": ["prod"], "agent_timeout": 1, "facts_concurrency": 1}, warns="are unknown of VM 102: no answer within agent_timeout (1 s)"
        )
    assert hosts["web1"]["ansible_host"] == "192.0.2.51"
    assert "ansible_host" not in hosts["db1"] and hosts["db1"]["proxmox_fact_gathering_failed"] is True


def test_all_agents_hang_for_the_time_of_facts_timeout_in_all(cluster):
    with cluster.faults({"method": "GET", "path": f"/nodes/*/{AGENT}", "action": "delay", "seconds": FOREVER}):
        config = {"tags": ["prod"], "agent_timeout": FOREVER, "facts_timeout": 1, "facts_concurrency": 1}
        hosts, _ = cluster.list(config, warns="are unknown of 2 VMs (101, 102): no answer within")
    assert sorted(hosts) == ["db1", "web1"] and "ansible_host" not in hosts["web1"]


def test_what_an_agent_may_not_be_asked_is_one_warning(cluster):
    with cluster.faults({"method": "GET", "path": f"/nodes/*/{AGENT}", "action": "status", "status": 403}):
        hosts, _ = cluster.list({"tags": ["prod"]}, warns="guest agents report are unknown of 2 VMs (101, 102): GET")
    assert sorted(hosts) == ["db1", "web1"]


def test_the_cache(cluster):
    config = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(cluster.path / "cache"), "tags": ["web"]}
    config["want_facts"] = True
    # A text that the cache could take for something of Ansible's own.
    cluster.api("PUT", "/nodes/pve/qemu/101/config", ciuser="__ansible_type=x")
    hosts, groups = cluster.list(config)
    cluster.api("PUT", "/nodes/pve/qemu/101/config", delete="ciuser")
    before = len(cluster.requests())
    assert cluster.list(config) == (hosts, groups)
    assert len(cluster.requests()) == before
    # Filters and variables are made of the cache; another list is not taken from it.
    assert sorted(cluster.list(config | {"filters": ["proxmox_vmid == 101"]})[0]) == ["web1"]
    assert len(cluster.requests()) == before
    assert sorted(cluster.list(config | {"tags": ["db"]})[0]) == ["db1"]
    assert len(cluster.requests()) > before
    before = len(cluster.requests())
    play = cluster.path / "play.yml"
    play.write_text("- {hosts: proxmox_tag_web, gather_facts: false, tasks: []}\n")
    done = cluster.run("ansible-playbook", play, "--list-hosts", "--flush-cache", config=config)
    assert "web1" in done.stdout, done.stderr
    assert len(cluster.requests()) > before
    (*files,) = (cluster.path / "cache").iterdir()
    assert files
    for file in files:
        text = file.read_text()
        assert "web1" in text or "db1" in text
        assert cluster.endpoint["api_token_secret"] not in text and cluster.endpoint["api_user"] not in text


def test_a_wrong_credential_says_what_to_check(cluster):
    wrong = "12345678-1234-4234-8234-123456789abc"
    done = cluster.run("ansible-inventory", "--list", ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED="1", PROXMOX_TOKEN_SECRET=wrong)
    assert done.returncode != 0
    text = " ".join(done.stderr.split())
    assert "cannot list the cluster's VMs" in text and "401" in text and "check api_token_id and api_token_secret" in text, done.stderr
    assert wrong not in done.stdout + done.stderr


def test_another_certificate_gets_no_credential(cluster):
    before = len(cluster.requests())
    done = cluster.run("ansible-inventory", "--list", PROXMOX_TLS_FINGERPRINT="AA:" * 31 + "AA")
    assert "set tls_fingerprint: " in " ".join(done.stderr.split()), done.stderr
    assert len(cluster.requests()) == before


def test_who_may_see_nothing_is_told_so(cluster):
    empty = cluster.endpoint["empty"]
    variables = {"PROXMOX_USER": empty["api_user"], "PROXMOX_TOKEN_ID": empty["api_token_id"], "PROXMOX_TOKEN_SECRET": empty["api_token_secret"]}
    done = cluster.run("ansible-inventory", "--list", **variables)
    assert "the privilege VM.Audit is missing" in " ".join(done.stderr.split()), done.stderr


def test_mistakes_in_the_options(cluster):
    for config, message in [
        ({"facts_concurrency": 0}, "facts_concurrency: must be between 1 and 64 (got 0)"),
        ({"prefer_family": "ipv5"}, "ipv5"),
        ({"group_prefix": "a b"}, "group_prefix: must be letters"),
        ({"tag": ["web"]}, "tag: not an option of nixos_proxmox"),
        ({"state_root": "/a'b"}, "state_root: must have no quotes"),
    ]:
        done = cluster.run("ansible-inventory", "--list", config=config)
        assert message in " ".join(done.stderr.split()), done.stderr
    done = cluster.run("ansible-inventory", "--list", PROXMOX_HOST=None)
    assert "api_host" in done.stderr


def test_options_may_be_templates(cluster):
    secret = cluster.path / "secret"
    secret.write_text(cluster.endpoint["api_token_secret"])
    config = {"api_token_secret": f"{{{{ lookup('ansible.builtin.file', '{secret}') }}}}", "tags": ["{{ wanted }}"]}
    hosts, _ = cluster.list(config, "-e", "wanted=db", PROXMOX_TOKEN_SECRET=None)
    assert sorted(hosts) == ["db1"]


def test_only_files_of_its_name_are_its_own(cluster):
    done = cluster.run("ansible-inventory", "--list", name="pve.yml")
    assert "could not be verified by inventory plugin 'nixos_proxmox'" in " ".join(done.stderr.split()), done.stderr
    done = cluster.run("ansible-inventory", "--list", name="nixos_proxmox.yaml", config={"tags": ["db"]})
    assert "db1" in json.loads(done.stdout)["_meta"]["hostvars"], done.stderr


def test_a_copied_role_brings_it_along_and_no_argument_has_the_secret(cluster, tmp_path):
    """As the README says: `cp -rL roles/nixos_vm YOUR_REPO/roles/`. The program is a script here that writes down how it was called."""
    role = tmp_path / "roles/nixos_vm"
    (role / "library").mkdir(parents=True)
    shutil.copytree(PLUGIN.parent, role / "inventory_plugins", ignore=shutil.ignore_patterns("__pycache__"))
    program = role / "library/nixos_vm_inventory"
    real = (PROJECT / "library/nixos_vm_inventory").resolve()
    program.write_text(f'#!/bin/sh\ntr "\\0" " " </proc/$$/cmdline >"{tmp_path}/cmdline"\nexec {real} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "ansible.cfg").write_text("[defaults]\ninventory_plugins = roles/nixos_vm/inventory_plugins\n")
    variables = {"ANSIBLE_CONFIG": str(tmp_path / "ansible.cfg")}
    done = cluster.run("ansible-inventory", "--list", cwd=tmp_path, config={"tags": ["db"]}, **variables)
    assert "db1" in json.loads(done.stdout)["_meta"]["hostvars"], done.stderr
    called = (tmp_path / "cmdline").read_text().split()
    assert called[-2:] == [str(program), "/dev/stdin"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and cluster.endpoint["api_token_secret"] in path.read_text(errors="replace")]
    # What it says when the program is not there, or does not work.
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    done = cluster.run("ansible-inventory", "--list", cwd=tmp_path, **variables)
    assert "ended with status 3 and no answer: broken" in " ".join(done.stderr.split()), done.stderr
    program.unlink()
    done = cluster.run("ansible-inventory", "--list", cwd=tmp_path, **variables)
    assert "the program nixos_vm_inventory is not built: run `make build`" in " ".join(done.stderr.split()), done.stderr


def test_it_is_documented_with_the_modules_own_connection_options():
    done = subprocess.run(
        ["ansible-doc", "-t", "inventory", "-j", "nixos_proxmox"], cwd=PROJECT, env=environment(), capture_output=True, text=True, check=True
    )
    options = json.loads(done.stdout)["nixos_proxmox"]["doc"]["options"]
    for module in ("nixos_vm_inventory", "proxmox_iso"):
        documented = yaml.safe_load((PROJECT / f"library/{module}.yml").read_text())["DOCUMENTATION"]["options"]
        names = [name for name in documented if name.startswith(("api_", "tls_")) or name in {"validate_certs", "ca_path"}]
        assert len(names) == 10
        for name in names:
            own, of_module = options[name], documented[name]
            sentence = "".join(f"If not set, the environment variable E({one['name']}) is used." for one in own.get("env", []))
            assert own["description"] == [line for line in of_module["description"] if line != sentence], name
            assert len(of_module["description"]) - len(own["description"]) == len(own.get("env", [])), name
            assert all(own.get(key) == of_module.get(key) for key in ("type", "elements", "default", "choices")), name
    listed = subprocess.run(["ansible-doc", "-t", "inventory", "-l"], cwd=PROJECT, env=environment(), capture_output=True, text=True, check=True)
    assert "nixos_proxmox" in listed.stdout and not os.environ.get("PROXMOX_TOKEN_SECRET", "")
