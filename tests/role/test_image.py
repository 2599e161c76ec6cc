"""Step 1 with an image that Nix builds: a program of that name answers as it does."""

import os

import pytest
from test_role import Play

NIX = """#!/bin/sh
printf '%s\\n' "$*" >>"{path}/calls"
[ "{answer}" = ok ] || {{ echo "error: {answer}" >&2; exit 1; }}
echo "{path}/0c5ajlqq-nixos-proxmox-installer-0.1.0-x86_64.iso"
"""


@pytest.fixture
def nix(tmp_path):
    """Makes the program; gives the options of a play that uses it."""
    image = tmp_path / "0c5ajlqq-nixos-proxmox-installer-0.1.0-x86_64.iso/iso/nixos-proxmox-installer-0.1.0-x86_64.iso"
    image.parent.mkdir(parents=True)
    image.write_bytes(os.urandom(65536))

    def program(answer="ok"):
        file = tmp_path / "nix"
        file.write_text(NIX.format(path=tmp_path, answer=answer))
        file.chmod(0o755)
        return ["-e", "nixos_vm_installer_source=build", "-e", f"nixos_vm_tools_path={tmp_path}"]

    program.calls = tmp_path / "calls"
    return program


def test_a_built_image_is_uploaded_under_a_name_of_its_own(lab, tmp_path, nix):
    play = Play(lab, tmp_path)
    code, output = play("--tags", "image,upload", *nix(), "-e", "nixos_vm_installer_builders=ssh://b1")
    assert code == 0, output
    names = [os.path.basename(file) for file, _ in lab.holds()]
    assert "nixos-proxmox-installer-0.1.0-x86_64-0c5ajlqq.iso" in names, names
    assert nix.calls.read_text().split() == (
        "--extra-experimental-features nix-command flakes build --no-link --print-out-paths"
        " --builders ssh://b1 github:nixos-proxmox/nixos-proxmox#installer-iso"
    ).split()
    # A later step alone finds it again, and nothing is uploaded twice.
    writes = lab.writes()
    code, output = play("--tags", "upload", *nix())
    assert code == 0 and "changed=0" in output, output
    assert lab.writes() == writes


def test_a_build_that_fails_says_what_nix_said_and_what_else_there_is(lab, tmp_path, nix):
    code, output = Play(lab, tmp_path)("--tags", "image", *nix("no machine builds aarch64-linux"))
    assert code != 0
    assert "error: no machine builds aarch64-linux" in output and "nixos_vm_installer_builders" in output, output
