"""Draw docs/benchmarks.svg from the figures of the benchmarks: `.cache/bench-venv/bin/python testing/bench/plot.py`.

BENCH_RESULTS=FILE (default target/bench.jsonl) has the figures. An argument is another file to write; its name decides the
format (svg or png). The same figures and the same matplotlib make the same file.
"""

import pathlib
import sys

import matplotlib
import results

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

OURS, PEER, CURL = "#2563eb", "#9aa3ad", "#c9ced4"
# 800 CSS pixels.
WIDTH = 600 / 72
BAR = 0.21
HEAD = 0.52
PROCESS = "process"
VM_THERE = "Nothing to do: the VM is there"

# Each panel: its title, the figure and its unit, bench and case, and the bars as (process, label, colour). The bar of the peer's
# colour is what the others are compared with. The plays of `scale` have 200 hosts.
PANELS = [
    (
        "A second run over 200 finished machines, with nothing to change", "wall", "s", "role", "200 finished machines",
        [
            ("the role", "the role nixos_vm, all of its tasks", OURS),
            ("one task of proxmox_nixos_vm", "one task proxmox_nixos_vm per machine", OURS),
            ("one task of proxmox_kvm", "one task proxmox_kvm per machine", PEER),
        ],
    ),
    (
        "One play that creates 200 VMs on ten nodes", "wall", "s", "scale", "200 hosts, from empty",
        [("proxmox_nixos_vm", "proxmox_nixos_vm", OURS), ("community.proxmox.proxmox_kvm", "proxmox_kvm", PEER)],
    ),
    (
        "The same play again, with nothing to change", "wall", "s", "scale", "200 hosts, again",
        [("proxmox_nixos_vm", "proxmox_nixos_vm", OURS), ("community.proxmox.proxmox_kvm", "proxmox_kvm", PEER)],
    ),
    (
        "ansible-inventory --list of 1,000 VMs", "wall", "s", "inventory", "the list",
        [("nixos_proxmox", "inventory plugin nixos_proxmox", OURS), ("community.proxmox.proxmox", "inventory plugin proxmox", PEER)],
    ),
    (
        "The same with addresses from guest agents and facts", "wall", "s", "inventory", "the list with addresses and facts",
        [("nixos_proxmox", "inventory plugin nixos_proxmox", OURS), ("community.proxmox.proxmox", "inventory plugin proxmox", PEER)],
    ),
    (
        "One module process with nothing to change: CPU time", "cpu", "s", PROCESS, VM_THERE,
        [("proxmox_nixos_vm", "proxmox_nixos_vm", OURS), ("community.proxmox.proxmox_kvm", "proxmox_kvm", PEER)],
    ),
    (
        "One module process with nothing to change: peak memory", "peak", "MiB", PROCESS, VM_THERE,
        [("proxmox_nixos_vm", "proxmox_nixos_vm", OURS), ("community.proxmox.proxmox_kvm", "proxmox_kvm", PEER)],
    ),
    (
        "Upload of 1 GiB: CPU time", "cpu", "s", PROCESS, "Upload of 1024 MiB",
        [
            ("proxmox_iso, checksum given", "proxmox_iso, checksum given", OURS),
            ("proxmox_iso, hashed first", "proxmox_iso, hashed first", OURS),
            ("curl -F", "curl", CURL),
            ("community.proxmox, requests_toolbelt", "proxmox_template", PEER),
        ],
    ),
]


def digits(value):
    """A value with two or three significant digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def draw(axes, rows, panel):
    title, figure, unit, bench, case, bars = panel
    found = []
    for process, label, colour in bars:
        if row := rows.get((bench, case, process)):
            failed = f" ({row['failed']} of 200 failed)" if row.get("failed") else ""
            found.append((label + failed, row[figure], colour))
    peer = next((value for _, value, colour in found if colour == PEER), None)
    labels, values, colours = zip(*found)
    positions = range(len(found))
    axes.barh(positions, values, height=0.72, color=colours)
    axes.set_yticks(positions, labels, fontsize=9)
    axes.invert_yaxis()
    axes.set_xticks([])
    axes.set_xlim(0, max(values) * 1.48)
    axes.tick_params(length=0)
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.spines["left"].set_color("#8c959f")
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", x=AXES_LEFT, pad=5)
    for position, value, colour in zip(positions, values, colours):
        ratio = "" if peer is None or colour == PEER else f"   {digits(value / peer)} × the peer's"
        axes.annotate(
            f"{digits(value)} {unit}{ratio}", (value, position), xytext=(5, 0), textcoords="offset points", va="center", fontsize=9,
            color="#1f2328",
        )


# Titles begin at the left edge of the labels: in widths of the axes.
LEFT, RIGHT = 0.335, 0.985
AXES_LEFT = -(LEFT - 0.015) / (RIGHT - LEFT)


def main():
    target = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else results.ROOT / "docs/benchmarks.svg"
    rows, machine = results.read()
    panels = [panel for panel in PANELS if any((panel[3], panel[4], process) in rows for process, _, _ in panel[5])]
    if not panels:
        sys.exit(f"plot: {results.FILE} has no figures; run `make bench` first")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "benchmarks", "text.color": "#1f2328", "axes.labelcolor": "#1f2328"}
    inches = [HEAD + BAR * len(panel[5]) for panel in panels]
    foot = 0.72
    height = sum(inches) + foot
    # An opaque background: the text is readable on dark pages, too.
    figure = plt.figure(figsize=(WIDTH, height), facecolor="white")
    top = height
    for panel, size in zip(panels, inches):
        bars = BAR * len(panel[5])
        draw(figure.add_axes((LEFT, (top - size) / height, RIGHT - LEFT, bars / height)), rows, panel)
        top -= size
    sha = "with" if machine["sha"] else "without"
    figure.text(
        0.015, 0.12 / height,
        f"Wall time, where no other figure is named; shorter is better. Blue: this project.\n"
        f"Grey: community.proxmox {machine['community.proxmox']} (the peer). Light grey: curl {machine['curl']}.\n"
        f"{machine['cpus']} CPUs, {machine['cpu']} {sha} SHA instructions, against the test host.",
        fontsize=8, color="#57606a", linespacing=1.5, va="bottom",
    )
    figure.savefig(target, metadata={"Date": None} if target.suffix == ".svg" else None, dpi=96)


if __name__ == "__main__":
    main()
