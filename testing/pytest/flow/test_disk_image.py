"""Machines whose boot disk is a copy of a disk image, with real guests and the real cloud-init.

The image is made as people make one by hand: a machine is installed, its identity is removed, and its disk is taken. Its system is a
stand-in for NixOS, made from Debian packages.
"""

import re
import subprocess

import pytest
from machines import Machine, wait_until

# What a machine must not hand on: cloud-init sets up a new one.
FORGET = r"""
rm -rf /etc/cloud/cloud-init.disabled /var/lib/cloud /etc/systemd/network/10-cloud-init* /etc/ssh/ssh_host_* /root/.ssh/authorized_keys
: >/etc/machine-id
sync
"""


@pytest.fixture
def debian(tmp_path):
    machine = Machine(tmp_path, "debian", "golden", 34, 512, 1024)
    yield machine
    machine.end()


def test_a_machine_from_a_disk_image_is_verified_and_keeps_its_identity(debian):
    debian.succeed()
    debian.ssh(FORGET)
    api = debian.lab.path / "pve"
    (golden,) = debian.vm_configs()
    debian.lab.module("proxmox_nixos_vm", vmid=int(golden.stem), state="stopped", timeout=120)
    disk = re.search(r"^scsi0: local:([^,]+)", golden.read_text(), re.M)[1]
    image = debian.lab.path / "golden.qcow2"
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", api / "storage/local/images" / disk, image], check=True)
    debian.destroy()

    fleet = debian.other("fleet1", 35, f"""
      nixos_vm_method: image
      nixos_vm_disk_image: {image}
      nixos_vm_disk_image_template: true
      nixos_vm_authorized_keys: ["{debian.public_key()}"]
      nixos_vm_extra_files_dir: ""
""")
    fleet.succeed()
    # A linked clone of the template, which has the image.
    config = fleet.vm_config(int(fleet.record()["vmid"]))
    assert fleet.phase() == "done" and "import" in fleet.record()["image"]
    template = int(fleet.record()["template"])
    assert f"base-{template}-disk-0" in config and "template: 1" in fleet.vm_config(template)
    assert fleet.ssh("hostname").strip() == "fleet1"
    assert "status: done" in fleet.ssh("cloud-init status --wait")
    # Its key is the one that was handed out, before it ran at all, and a restart keeps it.
    boot = fleet.boot_id()
    assert fleet.play()[1:] == (0, 0)
    assert fleet.boot_id() == boot
    fleet.ssh("systemctl reboot", check=False)
    wait_until(lambda: fleet.boot_id(check=False) not in (boot, ""), "the machine to restart", 300)
    assert fleet.vm_config(int(fleet.record()["vmid"])) == config
    seeds = list(api.rglob("nixos-proxmox-seed-*"))
    # In Base64 the first line of a private key begins so.
    assert len(seeds) == 1 and b"LS0tLS1CRUdJTiBPUEVOU1NI" not in seeds[0].read_bytes()
