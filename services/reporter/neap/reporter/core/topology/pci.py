"""The PCI tree: every function on the bus, and what lies above it.

A function is on the bus if /sys/bus/pci/devices names it; where it hangs is the directory that name is a link to:

    /sys/devices/pci0000:17/0000:17:00.0/0000:18:00.0/0000:19:04.0/0000:1a:00.0
                 host bridge  root port    switch: its upper and one lower port   the function

Directories, not names, tell what is above: a bridge need not be on the bus itself, and old directories of a device
that moved may still lie around. A host bridge may hang below a function (VMD); steps that are neither are skipped.

Source: kernel documentation, PCI/sysfs-pci and ABI/testing/sysfs-bus-pci.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from neap.reporter.core.topology.snapshot import PCI_DIR, Snapshot
from neap.reporter.core.topology.text import ADDRESS, hexadecimal, integer

HOST_BRIDGE: Final = re.compile(r"pci[0-9a-f]{4,8}:[0-9a-f]{2}")
DEEPEST: Final = 64  # steps; a bus number has eight bits, and no machine uses a quarter of them in one line
NAMED: Final = 3  # examples in a warning
LARGEST_BUS: Final = 255


@dataclass(frozen=True)
class Function:
    """One function; `path` as in model Device, empty where unknown. `last_bus` is the highest bus number below it."""

    address: str
    pci_class: str  # four hexadecimal digits
    vendor: str
    model: str
    path: tuple[str, ...]
    physical: str
    last_bus: int

    @property
    def domain(self) -> str:
        """Of its address."""
        return self.address.partition(":")[0]


def functions(seen: Snapshot, warnings: list[str]) -> list[Function]:
    """Every function on the bus, by address."""
    on_bus = sum(1 for name in seen.names.get(PCI_DIR, ()) if ADDRESS.fullmatch(name))
    found = [_function(seen, address) for address in seen.functions()]
    if on_bus > len(found):
        warnings.append(f"{on_bus - len(found)} of {on_bus} PCI functions are not looked at")
    if lost := [function.address for function in found if not function.path]:
        examples = ", ".join(lost[:NAMED])
        warnings.append(f"what is above {len(lost)} PCI functions is unknown: no link to their place ({examples})")
    return found


def last_address(target: str) -> str:
    """The function a path below /sys/devices belongs to: the last one it names."""
    return next((step for step in reversed(target.split("/")) if ADDRESS.fullmatch(step)), "")


def _function(seen: Snapshot, address: str) -> Function:
    at = f"{PCI_DIR}/{address}"
    below = integer(seen.files.get(f"{at}/subordinate_bus_number"))
    own = int(address.split(":")[1], 16)
    return Function(
        address=address,
        pci_class=hexadecimal(seen.files.get(f"{at}/class"), 6)[:4],
        vendor=hexadecimal(seen.files.get(f"{at}/vendor"), 4),
        model=hexadecimal(seen.files.get(f"{at}/device"), 4),
        path=_above(seen.links.get(at, ""), address),
        physical=last_address(seen.links.get(f"{at}/physfn", "")),
        last_bus=below if below is not None and own <= below <= LARGEST_BUS else own,
    )


def _above(target: str, address: str) -> tuple[str, ...]:
    """Host bridges and ports on the way; nothing if the way does not end here, names a step twice or has no root."""
    *above, last = target.split("/")
    path = tuple(step for step in above if HOST_BRIDGE.fullmatch(step) or ADDRESS.fullmatch(step))
    sound = path and last == address and HOST_BRIDGE.fullmatch(path[0]) and len({*path, last}) == len(path) + 1
    return path if sound and len(path) <= DEEPEST else ()
