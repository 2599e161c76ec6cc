"""What a real cloud-init makes of a drive: cloud_init_reads.py IMAGE FOLDER, an answer as JSON.

Run with Debian's package `cloud-init` in PYTHONPATH. Its own code finds the drive by its label, reads it, takes the
user-data apart, fills in templates, validates and parses; only the device and the mount are a file and its unpacked files.
"""

import json
import pathlib
import subprocess
import sys

from cloudinit import distros, handlers, helpers, util
from cloudinit.config import schema
from cloudinit.handlers import jinja_template
from cloudinit.net import eni, network_manager, network_state, networkd
from cloudinit.sources import DataSourceConfigDrive, DataSourceNoCloud

MAC = "bc:24:11:00:00:0b"


def one_device(image, folder):
    """Make this image the only block device, and these the files that are in it once it is mounted."""
    told = subprocess.run(["/sbin/blkid", "-p", "-o", "export", image], capture_output=True, text=True, check=True)
    known = told.stdout.splitlines()

    def devices(criteria=None, **_):
        return [image] if criteria is None or criteria in known else []

    def mounted(device, callback, data=None, **_):
        assert device == image
        return callback(folder, data) if data else callback(folder)

    util.find_devs_with, util.mount_cb = devices, mounted
    # What is written belongs to who runs this: neither root nor the guest's users are needed.
    util.chownbyname = lambda *_: None


def source(work):
    """The data source that takes the drive, asked in NixOS's and Debian's order."""
    paths = helpers.Paths({"cloud_dir": str(work), "run_dir": str(work / "run")})
    distro = distros.fetch("debian")("debian", {}, paths)
    for candidate in (DataSourceNoCloud.DataSourceNoCloud, DataSourceConfigDrive.DataSourceConfigDrive):
        found = candidate({}, distro, paths)
        # The network cards of the guest, which is not this machine.
        found.known_macs = {MAC: "eth0"}
        if found.get_data():
            return found
    return None


def parts(message, instance_data):
    """The parts of user-data or vendor-data as handlers get them, templates filled in."""
    for part in message.walk() if message else ():
        kind = part.get_content_type()
        if part.is_multipart() or not (payload := util.fully_decoded_payload(part)):
            continue
        if kind == "text/jinja2":
            payload = jinja_template.render_jinja_payload_from_file(payload, "part", instance_data)
            kind = handlers.type_from_starts_with(payload)
        if kind == "text/cloud-config":
            config = util.load_yaml(payload, default=None)
            schema.validate_cloudconfig_schema(config, schema=schema.get_schema(), strict=True)
            yield {"type": kind, "config": config}
        else:
            yield {"type": kind, "text": payload}


def units(config, work):
    """The files of systemd-networkd for a network configuration."""
    if config is None:
        return None
    state = network_state.parse_net_config_data(config)
    networkd.Renderer().render_network_state(state, target=str(work))
    folder = work / networkd.Renderer().network_conf_dir.lstrip("/")
    return {path.name: path.read_text() for path in folder.iterdir()}


def rendered(config, work):
    """The files of ifupdown and NetworkManager for a network configuration."""
    if config is None:
        return None
    texts = {}
    for name, renderer in (("ifupdown", eni.Renderer({"eni_path": "interfaces", "netrules_path": "rules"})), ("NetworkManager", network_manager.Renderer())):
        target = work / name
        renderer.render_network_state(network_state.parse_net_config_data(config), target=str(target))
        texts[name] = "\n".join(path.read_text() for path in sorted(target.rglob("*")) if path.is_file())
    return texts


def main(image, folder):
    work = pathlib.Path(folder).with_name("work")
    (work / "run").mkdir(parents=True)
    one_device(image, folder)
    found = source(work)
    assert found, "no data source takes this drive"
    instance_data = found.paths.get_runpath("instance_data")
    hostname = found.get_hostname(fqdn=True)
    answer = {
        "source": found.dsname,
        "instance_id": found.get_instance_id(),
        "hostname": getattr(hostname, "hostname", hostname),
        "metadata": found.metadata,
        "user_data": list(parts(found.get_userdata(), instance_data)),
        "vendor_data": list(parts(found.get_vendordata(), instance_data)),
        "network": found.network_config,
        "units": units(found.network_config, work),
        "rendered": rendered(found.network_config, work),
    }
    json.dump(answer, sys.stdout, default=str)


main(*sys.argv[1:])
