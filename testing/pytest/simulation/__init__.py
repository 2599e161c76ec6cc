"""A simulated installation site: a test host, guests that speak real SSH, and the plays that users run.

`pve-testhost --accel none` keeps power states but runs no guests. `guests.py` adds them: what a VM
boots, the SSH server that answers, and disks that remember what was written to them. A guest boots in
0.2 s, so a whole installation takes seconds. `world.py` holds the test host, controllers and inventories,
and what a person does to a VM in the GUI. `tools/` has a nixos-anywhere with the phases of the real one.
"""

from .guests import Disk, Guests
from .world import Controller, Machine, Play, Vm, World

__all__ = ["Controller", "Disk", "Guests", "Machine", "Play", "Vm", "World"]
