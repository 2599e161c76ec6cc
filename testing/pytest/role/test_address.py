"""Where a machine is when DHCP gives it its address: the agents of simulated guests never tell. testing/pytest/flow has one that does."""

import json
import re

from test_role import play  # noqa: F401 (a fixture)

ASKED = ("-e", json.dumps({"nixos_vm_ip": "dhcp", "nixos_vm_address": ""}))
TOLD = (
    r"waited [\d.]+ s for the guest agent of VM 100 \(web1\) to report an IPv4 address of net0 \(BC:24:11:[0-9A-F:]+\); "
    r"last: QEMU guest agent is not running \(timeout 3 s\).*services\.qemuGuest\.enable"
)


def test_a_machine_that_does_not_tell_its_address(play):
    code, output = play("--tags", "image,upload,provision,boot", *ASKED)
    assert code != 0 and re.search(TOLD, output), output
    # Nor does the installation begin without it, asked for alone.
    code, output = play("--tags", "install", *ASKED)
    assert code != 0 and re.search(TOLD, output), output
    assert "phase=provisioning" in play.vm(state="current")["config"]["description"]
    # No agent is asked for an address that the inventory says.
    before = questions(play)
    code, output = play("--tags", "boot", "-e", "nixos_vm_ip=dhcp")
    assert code != 0 and re.search(r"127\.0\.0\.1 port 1.*refused", output), output
    # A check of a machine that is stopped waits for nothing.
    play.vm(state="stopped", force=True)
    writes = play.lab.writes()
    code, output = play("--check", *ASKED)
    assert code == 0, output
    assert play.lab.writes() == writes and questions(play) == before


def questions(play):
    log = (play.lab.path / "pve/requests.jsonl").read_text()
    return log.count("/agent/network-get-interfaces")
