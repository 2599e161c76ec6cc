#!/usr/bin/env python3
"""Make docs/recording.svg: what a terminal shows while the play installs three machines on the embedded test host, with real QEMU guests.

`make recording` runs it. Time in the picture runs faster; the clock in its first line shows the play's time. The
path of the project is shown as ~/infra.
"""

import fcntl
import html
import itertools
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

import pyte

PROJECT = Path(__file__).resolve().parents[2]
TESTHOST = Path(os.environ.get("PVE_TESTHOST", PROJECT / "target/release/pve-testhost"))
PICTURE = PROJECT / "docs/recording.svg"

ROWS, COLUMNS = 18, 118
# Of the play, in seconds.
SECONDS_BETWEEN_SCREENS = 1
# Of the picture, in seconds.
FRAME_SECONDS, LAST_FRAME_SECONDS = 0.12, 6
# Of a character, in the picture's units; the font is 13 of them high.
WIDTH, HEIGHT = 7.8, 17
COLOURS = {
    "default": "#d0d4da", "black": "#7d8590", "red": "#f47067", "green": "#6bc46d", "brown": "#daaa3f", "blue": "#6cb6ff",
    "magenta": "#dcbdfb", "cyan": "#76e3ea", "white": "#ffffff",
}  # fmt: skip

MACHINES = {"db1": 31, "web1": 32, "web2": 33}


def inventory(directory):
    """An inventory of the machines on a test host; its path."""
    path = directory / "inventory"
    path.mkdir()
    (path / "group_vars").symlink_to(PROJECT / "testing/demo/inventory/group_vars")
    hosts = {
        name: {
            "ansible_host": f"127.77.0.{number}",
            "ansible_port": 2222,
            "nixos_vm_ip": f"10.77.0.{number}/24",
            "nixos_vm_tools_path": str(PROJECT / "testing/stand-in"),
            "nixos_vm_flake": f"{PROJECT}/testing/demo/flake#{name}",
            "nixos_vm_cores": 1,
            "nixos_vm_memory": 384,
            "nixos_vm_install_memory": 512,
        }
        for name, number in MACHINES.items()
    }
    (path / "hosts.yml").write_text(json.dumps({"nixos_vms": {"hosts": hosts}}))
    return path


def record(command, environment):
    """Run a command on a terminal. The screens that differ from those before them, as pairs of seconds and lines of cells."""
    screen = pyte.Screen(COLUMNS, ROWS)
    stream = pyte.ByteStream(screen)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    play = subprocess.Popen(command, cwd=PROJECT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    lock = threading.Lock()

    def read():
        try:
            while data := os.read(ours, 65536):
                with lock:
                    stream.feed(data)
        except OSError:
            pass  # the play has ended

    reader = threading.Thread(target=read)
    reader.start()

    def cells():
        return [[screen.buffer[row][column] for column in range(COLUMNS)] for row in range(ROWS)]

    begin, frames, empty = time.monotonic(), [], cells()

    def look():
        with lock:
            lines = cells()
        before = frames[-1][1] if frames else empty
        if lines != before:
            frames.append((time.monotonic() - begin, lines))

    try:
        while play.poll() is None:
            look()
            time.sleep(SECONDS_BETWEEN_SCREENS)
    finally:
        # The terminal's own Ctrl-C does not reach it.
        if play.poll() is None:
            os.killpg(play.pid, signal.SIGTERM)
            play.wait()
        reader.join()
    look()
    if play.returncode:
        sys.exit("\n".join(screen.display))
    return frames


def line(cells):
    """The text of a line of the screen, as SVG."""
    spans = []
    for (colour, bold), run in itertools.groupby(cells, key=lambda cell: (cell.fg, cell.bold)):
        text = html.escape("".join(cell.data for cell in run).replace(str(PROJECT), "~/infra"))
        if text.strip():
            weight = ' font-weight="bold"' if bold else ""
            spans.append(f'<tspan fill="{COLOURS.get(colour, COLOURS["default"])}"{weight}>{text}</tspan>')
        else:
            spans.append(text)
    return "".join(spans).rstrip()


def picture(frames):
    """The frames one below the other, moved past a window: the SVG."""
    width, height = COLUMNS * WIDTH + 24, (ROWS + 2) * HEIGHT
    lines, shown = {}, []
    for number, (seconds, cells) in enumerate(frames):
        top = number * height
        clock = f"{int(seconds) // 60}:{int(seconds) % 60:02}"
        shown.append(f'<text x="12" y="{top + HEIGHT}" fill="{COLOURS["black"]}">ansible-playbook provision.yml -i inventory  {clock}</text>')
        for row, of_row in enumerate(cells):
            if text := line(of_row):
                name = lines.setdefault(text, f"l{len(lines)}")
                shown.append(f'<use href="#{name}" x="12" y="{top + (row + 2) * HEIGHT:g}"/>')
    total = len(frames) * FRAME_SECONDS + LAST_FRAME_SECONDS
    steps = [f"{100 * number * FRAME_SECONDS / total:.3f}%{{transform:translateY({-number * height}px)}}" for number in range(len(frames))]
    last = f"transform:translateY({-(len(frames) - 1) * height}px)"
    texts = "".join(f'<text id="{name}">{text}</text>' for text, name in lines.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height}" width="{width:g}" height="{height}">'
        "<title>The play installs three machines</title>"
        "<style>text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}"
        f"#film{{animation:film {total:g}s step-end infinite}}@keyframes film{{{''.join(steps)}100%{{{last}}}}}"
        f"@media (prefers-reduced-motion:reduce){{#film{{animation:none;{last}}}}}</style>"
        f'<rect width="100%" height="100%" rx="6" fill="#1c2128"/><defs>{texts}</defs><g id="film">{"".join(shown)}</g></svg>\n'
    )


def main():
    with tempfile.TemporaryDirectory() as directory:
        lab = Path(directory) / "lab"
        subprocess.run([TESTHOST, "lab", "up", lab, "tiny"], check=True, stdout=subprocess.DEVNULL)
        try:
            environment = os.environ | {
                "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
                "NIXOS_PROXMOX_DEMO_DIR": str(lab),
                "PATH": f"{PROJECT}/.venv/bin:{os.environ['PATH']}",
                "TERM": "xterm-256color",
            }
            frames = record(["ansible-playbook", "provision.yml", "-i", str(inventory(Path(directory)))], environment)
        finally:
            subprocess.run([TESTHOST, "lab", "down", lab], check=True, stdout=subprocess.DEVNULL)
    PICTURE.write_text(picture(frames))
    print(f"{PICTURE.relative_to(PROJECT)}: {len(frames)} frames, {PICTURE.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
