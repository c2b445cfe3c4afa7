"""schemata: the cache ways and the memory bandwidth of a resctrl group, per cache domain.

    "L3:0=ff;1=ff" is a mask of ways, "MB:0=50;1=100" a limit       [bit mask; per cent, or MB/s on some machines]

Only resources and domains that the advice names are ours. The kernel rounds bandwidth up to its granularity, at most
10 per cent.
Source: kernel documentation, arch/x86/resctrl, "Schemata files", "bandwidth_gran".
"""

from __future__ import annotations

from typing import Any, Final

from neap.enforcer.core.knob import Knob, Reach
from neap.enforcer.core.rdt import SCHEMATA, agree, format_schemata, keep, parse_schemata, written


def nothing(knobs: Any) -> None:
    """It is advised for the node, not for a cgroup (core/wish.py)."""
    del knobs


def turn(wanted: str, read: str) -> int:
    """After the group is made, before tasks go in."""
    del wanted, read
    return -2


def inverse(text: str) -> str:
    """The lines as the kernel takes them.

    Raises:
        InputError: malformed.
    """
    return written(parse_schemata(text))


PLUGIN: Final = Knob(
    file=SCHEMATA,
    value=nothing,
    format=format_schemata,
    parse=parse_schemata,
    agree=agree,
    inverse=inverse,
    reach=Reach.GROUP,
    turn=turn,
    keep=keep,
    yields=False,
)
