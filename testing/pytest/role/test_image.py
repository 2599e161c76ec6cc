"""Step 1 with an image that Nix builds, or of a release: a program and a server answer as Nix and GitHub do."""

import hashlib
import http.server
import json
import os
import re
import threading

import pytest
from images import iso_image
from test_role import Play

NIX = """#!/bin/sh
printf '%s\\n' "$*" >>"{path}/calls"
case $* in "path-info "*) echo evaluated; exit ;; esac  # of what is to be installed
[ "{answer}" = ok ] || {{ echo "error: {answer}" >&2; exit 1; }}
echo "{path}/0c5ajlqq-nixos-proxmox-installer-0.1.0-x86_64.iso"
"""


@pytest.fixture
def nix(tmp_path):
    """Makes the program; gives the options of a play that uses it."""
    image = tmp_path / "0c5ajlqq-nixos-proxmox-installer-0.1.0-x86_64.iso/iso/nixos-proxmox-installer-0.1.0-x86_64.iso"
    image.parent.mkdir(parents=True)
    image.write_bytes(iso_image(os.urandom(65536)))

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
    asked = (
        "--extra-experimental-features nix-command flakes build --no-link --print-out-paths"
        " --builders ssh://b1 github:nixos-proxmox/nixos-proxmox#installer-iso"
    )
    assert asked in " ".join(nix.calls.read_text().split())
    # A later step alone finds it again, and nothing is uploaded twice.
    writes = lab.writes()
    code, output = play("--tags", "upload", *nix())
    assert code == 0 and "changed=0" in output, output
    assert lab.writes() == writes


def test_a_build_that_fails_says_what_nix_said_and_what_else_there_is(lab, tmp_path, nix):
    code, output = Play(lab, tmp_path)("--tags", "image", *nix("no machine builds aarch64-linux"))
    assert code != 0
    assert "error: no machine builds aarch64-linux" in output and "nixos_vm_installer_builders" in output, output


class GitHub(http.server.BaseHTTPRequestHandler):
    """Its API, and the files of one release."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, self.headers.get("Authorization")))
        body = server.pages.get(self.path)
        self.send_response(200 if body is not None else 404)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_):
        pass


@pytest.fixture
def github():
    """Makes releases; gives the options of a play that uses the latest."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), GitHub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.base = f"http://127.0.0.1:{server.server_port}"
    server.pages, server.asked = {}, []

    def release(tag, content, digest=None):
        releases = "/repos/me/nixos-cloud-init-installer/releases"
        assets = []
        for arch in ["aarch64", "x86_64"]:
            name = f"nixos-cloud-init-installer-{tag}-{arch}.iso"
            server.pages |= {f"/{name}": content, f"/asset/{name}": content}
            assets.append({
                "name": name, "size": len(content), "digest": f"sha256:{digest or hashlib.sha256(content).hexdigest()}",
                "url": f"{server.base}/asset/{name}", "browser_download_url": f"{server.base}/{name}",
            })
        answer = json.dumps({"tag_name": tag, "assets": assets}).encode()
        server.pages |= {f"{releases}/tags/{tag}": answer, f"{releases}/latest": answer}
        options = {"source": "release", "repo": "me/nixos-cloud-init-installer", "api_url": server.base}
        return [word for name, value in options.items() for word in ["-e", f"nixos_vm_installer_{name}={value}"]]

    release.asked, release.base = server.asked, server.base
    yield release
    server.shutdown()
    server.server_close()


def test_a_release_is_passed_on_with_its_checksum(lab, tmp_path, github):
    play = Play(lab, tmp_path)
    content = iso_image(os.urandom(300_000))
    options = github("v1", content)
    # A check of it asks, and changes nothing.
    writes = lab.writes()
    code, output = play("--tags", "image,upload", "--check", *options)
    assert code == 0 and lab.writes() == writes, output
    code, output = play("--tags", "image,upload", *options, "-e", "nixos_vm_installer_token=ghp_distinctive", "-vvv")
    assert code == 0 and "ghp_distinctive" not in output, output
    stored = lab.path / "pve/storage/local/template/iso/nixos-cloud-init-installer-v1-x86_64.iso"
    assert stored.read_bytes() == content
    # The file itself was asked for with the token, and once.
    files = [(path, token) for path, token in github.asked if path.endswith(".iso")]
    assert files == [("/asset/nixos-cloud-init-installer-v1-x86_64.iso", "Bearer ghp_distinctive")]
    # Each later step knows its name.
    writes = lab.writes()
    code, output = play("--tags", "upload", *options)
    assert code == 0 and "changed=0" in output and lab.writes() == writes, output
    # A newer one stands beside it; a tag keeps the old.
    newer = iso_image(os.urandom(1000))
    options = github("v2", newer)
    code, output = play("--tags", "upload", *options, "-e", "nixos_vm_installer_tag=v1")
    assert code == 0 and "changed=0" in output and lab.writes() == writes, output
    code, output = play("--tags", "upload", *options)
    assert code == 0 and (stored.parent / "nixos-cloud-init-installer-v2-x86_64.iso").stat().st_size == len(newer), output


def test_a_release_that_is_damaged_or_not_there_is_said_to_be_so(lab, tmp_path, github):
    play = Play(lab, tmp_path)
    options = github("v3", iso_image(b"not what was built"), digest="0" * 64)
    code, output = play("--tags", "upload", *options)
    assert code != 0 and "checksum" in output, output
    assert not (lab.path / "pve/storage/local/template/iso/nixos-cloud-init-installer-v3-x86_64.iso").exists()
    code, output = play("--tags", "image", *options, "-e", "nixos_vm_installer_tag=v4")
    assert code != 0 and "cannot look up release v4 of me/nixos-cloud-init-installer" in output, output


def test_warnings_have_the_names_of_the_variables(lab, tmp_path, github):
    github("v5", iso_image(os.urandom(1000)))
    host = github.base.replace("http://", "http://me:distinctive@")
    options = {"source": "url", "iso": f"{host}/nixos-cloud-init-installer-v5-x86_64.iso"}
    words = [word for name, value in options.items() for word in ["-e", f"nixos_vm_installer_{name}={value}"]]
    code, output = Play(lab, tmp_path)("--tags", "upload", *words, "-e", json.dumps({"nixos_vm_iso_options": {"download_by": "node"}}))
    output = " ".join(output.split())
    assert "distinctive" not in output, output
    assert "nixos_vm_installer_iso: the node writes the address" in output, output
    assert "set nixos_vm_iso_options.download_by: controller" in output, output
    assert "set nixos_vm_installer_checksum: ALGORITHM:HEX" in output, output
    assert not re.search(r"[\[ ](url|checksum|download_by): ", output), output


def test_a_short_secret_is_named_by_its_variable_once(lab, tmp_path, github):
    options = github("v6", iso_image(os.urandom(1000)))
    code, output = Play(lab, tmp_path)("--tags", "upload", *options, "-e", "nixos_vm_installer_token=tok12")
    output = " ".join(output.split())
    assert code == 0 and "WARNING]: nixos_vm_installer_token: a value of fewer than 7 characters" in output, output
    assert "github_release.token" not in output and "settings." not in output, output
