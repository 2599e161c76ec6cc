"""What the module puts into a drive, a real cloud-init takes out of it again: Debian's package, outside of a guest."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import PROJECT

PACKAGE = PROJECT / ".cache/packages/cloud-init/usr/lib/python3/dist-packages"
READER = Path(__file__).with_name("cloud_init_reads.py")
MAC = "BC:24:11:00:00:0B"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPz6nYYnhYSNxX9pOeX5vY5mBxrYQf0Cm6bcHkMcvmq8 me@here"
SEED = {"node": "pve", "vmid": 101, "drive": "ide0", "storage": "local"}
LAYOUTS = {"nocloud": "NoCloud", "configdrive": "ConfigDrive"}
SCRIPT = "#!/bin/sh\necho 'ä \"quoted\"' >/root/out\n"
JINJA = "## template: jinja\n#cloud-config\nlocale: '{{ ds.meta_data.region }}-{{ v1.instance_id }}'\n"
MIME = """Content-Type: multipart/mixed; boundary="=b="
MIME-Version: 1.0

--=b=
Content-Type: text/cloud-config; charset="utf-8"

#cloud-config
timezone: Europe/Vienna

--=b=
Content-Type: text/x-shellscript; charset="utf-8"

#!/bin/sh
echo second

--=b=--
"""
FIXED = {"ipconfig0": {"ip": "10.77.0.11/20", "gw": "10.77.0.1", "ip6": "2001:db8::11/64", "gw6": "2001:db8::1"}}


@pytest.fixture(scope="module")
def guest(lab):
    made = lab.module(
        "proxmox_nixos_vm", node="pve", vmid=101, name="web1", memory=128,
        scsi={"scsi0": "local:0.01"}, net={"net0": {"bridge": "vmbr0", "macaddr": MAC}},
    )
    assert not made.failed, made.output
    return lab


def drive(guest, **options):
    """Run the module; the image that is in the VM's drive then."""
    made = guest.module("cloudinit_drive", **SEED, **options)
    assert not made.failed, made.output
    storage, _, name = made.data["volid"].partition(":")
    root = guest.path / "pve/storage" / storage
    return made.data, root / ("template" if name.startswith("iso/") else "images") / name


def read(image, folder):
    """What cloud-init reads in an image."""
    files = folder / "files"
    subprocess.run(
        ["xorriso", "-report_about", "SORRY", "-osirrox", "on", "-indev", image, "-extract", "/", files],
        check=True, timeout=60, capture_output=True,
    )
    done = subprocess.run(
        [sys.executable, READER, image, files],
        env={**os.environ, "PYTHONPATH": str(PACKAGE)},
        capture_output=True, text=True, timeout=120, check=False,
    )
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    answer["log"] = done.stderr
    return answer


@pytest.mark.parametrize("layout", LAYOUTS)
def test_everything_at_once(guest, tmp_path, layout):
    host_key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", host_key], check=True)
    own = {"timezone": "Europe/Vienna", "write_files": [{"path": "/etc/x", "content": "ä: \"1\"\n\ttab"}], "runcmd": [["echo", "no: 1"]]}
    made, image = drive(
        guest, layout=layout, hostname="web1.example.org", user_data=own, vendor_data={"locale": "de_AT.UTF-8"},
        meta_data={"region": "north", "nested": {"list": [1, "2"]}}, ssh_authorized_keys=[KEY],
        ssh_host_keys={"ed25519": {"private_file": str(host_key)}}, ipconfig=FIXED,
        nameservers=["10.77.0.1", "2001:db8::53"], searchdomains=["example.org"],
    )
    seen = read(image, tmp_path)
    assert seen["source"] == LAYOUTS[layout]
    assert seen["instance_id"] == made["instance_id"]
    assert seen["hostname"] == "web1.example.org"
    assert (seen["metadata"]["region"], seen["metadata"]["nested"]) == ("north", {"list": [1, "2"]})
    (config,) = (part["config"] for part in seen["user_data"])
    assert config["timezone"] == "Europe/Vienna"
    assert config["runcmd"] == own["runcmd"]
    assert config["write_files"][0] == own["write_files"][0]
    assert {file["path"] for file in config["write_files"][1:]} == {"/etc/ssh/ssh_host_ed25519_key", "/etc/ssh/ssh_host_ed25519_key.pub"}
    assert config["users"][0]["ssh_authorized_keys"] == [KEY]
    assert seen["vendor_data"] == [{"type": "text/cloud-config", "config": {"locale": "de_AT.UTF-8"}}]
    (unit,) = seen["units"].values()
    lines = unit.lower().splitlines()
    assert f"macaddress={MAC.lower()}" in lines
    for wanted in ("address=10.77.0.11/20", "address=2001:db8::11/64", "gateway=10.77.0.1", "gateway=2001:db8::1", "domains=example.org"):
        assert wanted in lines, unit
    assert any("10.77.0.1" in line and "2001:db8::53" in line for line in lines if line.startswith("dns=")), unit


@pytest.mark.parametrize("layout", LAYOUTS)
def test_addresses_that_the_network_gives(guest, tmp_path, layout):
    domains = ["example.org", "example.net"]
    _, image = drive(
        guest, layout=layout, ipconfig={"ipconfig0": "ip=dhcp,ip6=dhcp"},
        nameservers=["10.77.0.1", "10.77.0.2"], searchdomains=domains,
    )
    (unit,) = read(image, tmp_path)["units"].values()
    for wanted in ("DHCP=yes", "DNS=10.77.0.1 10.77.0.2", "Domains=example.org example.net"):
        assert wanted in unit.splitlines(), unit


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "script": (SCRIPT, [{"type": "text/x-shellscript", "text": SCRIPT}]),
        "mime": (
            MIME,
            [
                {"type": "text/cloud-config", "config": {"timezone": "Europe/Vienna"}},
                {"type": "text/x-shellscript", "text": "#!/bin/sh\necho second\n"},
            ],
        ),
        # For the guest, not for Ansible.
        "jinja": ("{% raw %}" + JINJA + "{% endraw %}", [{"type": "text/cloud-config", "config": {"locale": "north-i-1"}}]),
        "archive": ("#cloud-config-archive\n- {type: text/cloud-config, content: 'locale: x'}\n", [{"type": "text/cloud-config", "config": {"locale": "x"}}]),
        "config": ("#cloud-config\n# a comment\nlocale: x\n", [{"type": "text/cloud-config", "config": {"locale": "x"}}]),
    }.values(),
    ids=["script", "mime", "jinja", "archive", "config"],
)
def test_texts_come_out_as_put_in(guest, tmp_path, layout, text, expected):
    _, image = drive(guest, layout=layout, user_data=text, vendor_data=text, meta_data={"instance-id": "i-1", "region": "north"})
    seen = read(image, tmp_path)
    assert seen["instance_id"] == "i-1"
    # The one line end before a boundary belongs to the boundary.
    strip = [{key: value.rstrip("\n") if key == "text" else value for key, value in part.items()} for part in expected]
    for found in (seen["user_data"], seen["vendor_data"]):
        assert [{key: value.rstrip("\n") if key == "text" else value for key, value in part.items()} for part in found] == strip


V1 = {
    "version": 1,
    "config": [
        {"type": "physical", "name": "eth0", "mac_address": MAC.lower(), "subnets": [{"type": "static", "address": "10.77.0.11/24", "gateway": "10.77.0.1"}]},
        {"type": "nameserver", "address": ["10.77.0.1"], "search": ["example.org"]},
    ],
}
V2 = {"version": 2, "ethernets": {"eth0": {"match": {"macaddress": MAC.lower()}, "addresses": ["10.77.0.11/24"], "nameservers": {"addresses": ["10.77.0.1"]}}}}


@pytest.mark.parametrize("config", [V1, V2], ids=["version 1", "version 2"])
@pytest.mark.parametrize("written", [dict, json.dumps], ids=["dict", "text"])
def test_a_network_configuration_of_ones_own(guest, tmp_path, config, written):
    _, image = drive(guest, network_config=written(config))
    seen = read(image, tmp_path)
    assert seen["network"] == config
    (unit,) = seen["units"].values()
    assert "Address=10.77.0.11/24" in unit and "DNS=10.77.0.1" in unit


def test_a_config_drives_network_of_ones_own(guest, tmp_path):
    own = {
        "links": [{"id": "l", "type": "phy", "ethernet_mac_address": MAC.lower()}],
        "networks": [{"id": "n", "link": "l", "type": "ipv4_dhcp"}],
    }
    _, image = drive(guest, layout="configdrive", network_config=own)
    (unit,) = read(image, tmp_path)["units"].values()
    assert "DHCP=ipv4" in unit, unit


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_gateway_outside_of_the_network(guest, tmp_path, layout):
    """networkd sets no route over a gateway that it cannot reach, so that one comes first; ifupdown and NetworkManager need none."""
    addresses = {"ip": "203.0.113.9/32", "gw": "198.51.100.1", "ip6": "2001:db8::9/128", "gw6": "2001:db8:1::1"}
    _, image = drive(guest, layout=layout, ipconfig={"ipconfig0": addresses}, nameservers=["198.51.100.53"])
    seen = read(image, tmp_path)
    (unit,) = seen["units"].values()
    routes = [set(part.split()) for part in unit.split("[Route]")[1:]]
    for gateway, to_it, any_network in (("198.51.100.1", "Destination=198.51.100.1/32", "0.0.0.0"), ("2001:db8:1::1", "Destination=2001:db8:1::1/128", "::")):
        assert any({to_it, f"Gateway={any_network}"} <= route for route in routes), unit
        assert any(f"Gateway={gateway}" in route for route in routes), unit
    assert "DNS=198.51.100.53" in unit
    if layout == "nocloud":
        ifupdown = [line.strip() for line in seen["rendered"]["ifupdown"].splitlines()]
        assert {"gateway 198.51.100.1", "gateway 2001:db8:1::1", "dns-nameservers 198.51.100.53"} <= set(ifupdown), ifupdown
        manager = seen["rendered"]["NetworkManager"].splitlines()
        assert {"gateway=198.51.100.1", "gateway=2001:db8:1::1"} <= set(manager), manager
        assert any(line.startswith("dns=198.51.100.53") for line in manager), manager


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ipv6_alone_with_the_router_on_the_link(guest, tmp_path, layout):
    """A link-local gateway needs no route to it: every NIC reaches its own link."""
    _, image = drive(
        guest, layout=layout, ipconfig={"ipconfig0": "ip6=2001:DB8:0::11/64,gw6=FE80::1"}, nameservers=["2001:db8::53"],
        searchdomains=["example.org"],
    )
    (unit,) = read(image, tmp_path)["units"].values()
    lines = unit.splitlines()
    for wanted in ("Address=2001:db8::11/64", "Gateway=fe80::1", "DNS=2001:db8::53", "Domains=example.org"):
        assert wanted in lines, unit
    assert "DHCP=no" in lines and "GatewayOnLink" not in unit and "0.0.0.0" not in unit, unit


def test_several_nics_have_one_default_route(guest, tmp_path):
    second = "BC:24:11:00:00:0C"
    both = {"net0": {"bridge": "vmbr0", "macaddr": MAC}, "net1": {"bridge": "vmbr0", "macaddr": second, "tag": 20}}
    made = guest.module("proxmox_nixos_vm", node="pve", vmid=101, name="web1", net=both)
    assert not made.failed, made.output
    _, image = drive(guest, ipconfig={
        "ipconfig0": "ip=10.77.0.11/24,gw=10.77.0.1,ip6=2001:db8::11/64,gw6=fe80::1",
        "ipconfig1": {"ip": "198.51.100.11/24", "ip6": "2001:db8:1::11/64"},
    })
    units = {mac: unit for unit in read(image, tmp_path)["units"].values() for mac in (MAC, second) if mac.lower() in unit.lower()}
    assert {"Address=10.77.0.11/24", "Address=2001:db8::11/64", "Gateway=10.77.0.1", "Gateway=fe80::1"} <= set(units[MAC].splitlines()), units
    assert {"Address=198.51.100.11/24", "Address=2001:db8:1::11/64"} <= set(units[second].splitlines()), units
    assert "Gateway" not in units[second], units


@pytest.mark.parametrize("layout", LAYOUTS)
def test_router_advertisements(guest, tmp_path, layout):
    _, image = drive(guest, layout=layout, ipconfig={"ipconfig0": "ip=10.77.0.11/24,gw=10.77.0.1,ip6=auto"}, nameservers=["10.77.0.1"])
    seen = read(image, tmp_path)
    assert "iface eth0 inet6 auto" in seen["rendered"]["ifupdown"]
    assert "[ipv6]\nmethod=auto" in seen["rendered"]["NetworkManager"]
    (unit,) = seen["units"].values()
    assert "Gateway=10.77.0.1" in unit and "IPv6AcceptRA=no" not in unit


def test_both_spellings_of_a_users_keys(guest, tmp_path):
    """cloud-init makes one of them, and would keep the last."""
    other = KEY.replace("me@here", "two")
    users = [{"name": "root", "ssh-authorized-keys": [other]}]
    _, image = drive(guest, user_data={"users": users}, ssh_authorized_keys=[KEY])
    (config,) = (part["config"] for part in read(image, tmp_path)["user_data"])
    assert config["users"] == [{"name": "root", "ssh_authorized_keys": [other, KEY]}]


def test_the_drive_that_proxmox_makes(guest, tmp_path):
    """The options of a native drive mean the same to a guest."""
    options = {"kind": "native", "citype": "nocloud", "ciuser": "admin", "sshkeys": f"# mine\n{KEY}\n", "ipconfig": FIXED}
    _, image = drive(guest, **options, nameservers=["10.77.0.1"], searchdomains=["example.org"])
    raw = tmp_path / "raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", image, raw], check=True, timeout=60)
    seen = read(raw, tmp_path)
    assert seen["source"] == "NoCloud"
    (config,) = (part["config"] for part in seen["user_data"])
    assert (config["user"], config["ssh_authorized_keys"]) == ("admin", [KEY])
    assert config.get("package_upgrade", False) is False
    (unit,) = seen["units"].values()
    for wanted in ("Address=10.77.0.11/20", "Address=2001:db8::11/64", "Gateway=10.77.0.1", "DNS=10.77.0.1", "Domains=example.org"):
        assert wanted in unit, unit
