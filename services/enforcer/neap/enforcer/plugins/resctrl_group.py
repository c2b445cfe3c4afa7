"""The existence of a resctrl group: made when advice names one that is not there, taken away when it was ours.

    "present" or "absent"; a group takes one of the processor's few classes of service       [state]

Taking a group away moves its tasks to the root group.
Source: kernel documentation, arch/x86/resctrl, "Resource alloc and monitor groups".
"""

from __future__ import annotations

from typing import Any, Final

from neap.enforcer.core.knob import Knob, Reach
from neap.enforcer.core.rdt import ABSENT, GROUP, PRESENT, presence


def nothing(knobs: Any) -> None:
    """It is advised for the node, not for a cgroup (core/wish.py)."""
    del knobs


def turn(wanted: str, read: str) -> int:
    """Made before everything that needs it, taken away after everything that was in it."""
    del read
    return 3 if wanted == ABSENT else -3


PLUGIN: Final = Knob(
    file=GROUP,
    value=nothing,
    format=lambda there: PRESENT if there else ABSENT,
    parse=presence,
    reach=Reach.GROUP,
    turn=turn,
    yields=False,
)
