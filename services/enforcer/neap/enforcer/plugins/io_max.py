"""io.max: limits of a cgroup on single block devices.

    "major:minor rbps=N wbps=N riops=N wiops=N"; "max" lifts one       [bytes/s, operations/s]

One write carries one device. What is journaled is only what we change: the four limits of other devices, and limits
of our devices that the advice does not name, stay with whoever set them; the inverse lifts or resets exactly ours. A
device that is gone needs nothing.
Source: kernel documentation, admin-guide/cgroup-v2, "IO Interface Files"; block/blk-throttle.c.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Final, TypeAlias

from neap.common.errors import InputError
from neap.enforcer.core.knob import LIFTED, Knob, whole

Limits: TypeAlias = Mapping[tuple[str, str], int]  # (device, what) -> limit; -1: none
KINDS: Final = ("rbps", "wbps", "riops", "wiops")
UNLIMITED: Final = -1
LARGEST: Final = 1 << 63
MOST_DEVICES: Final = 256
_DEVICE: Final = re.compile(r"\d{1,7}:\d{1,7}")


def format_limits(devices: Mapping[str, Mapping[str, int]]) -> str:
    """One line per device.

    Raises:
        InputError: no device number, a limit that does not exist, or one out of bounds.
    """
    if not devices or len(devices) > MOST_DEVICES:
        raise InputError(f"{len(devices)} devices (1..{MOST_DEVICES})")
    limits: dict[tuple[str, str], int] = {}
    for device, wanted in devices.items():
        if not _DEVICE.fullmatch(device) or not wanted:
            raise InputError(f"{device[:40]!r} {sorted(wanted)} is no device with limits (8:0, {', '.join(KINDS)})")
        for kind, limit in wanted.items():
            if kind not in KINDS or not (limit == UNLIMITED or 0 < limit < LARGEST):
                raise InputError(f"{device} {kind[:20]}={limit} is no limit ({', '.join(KINDS)}; -1 lifts it)")
            limits[device, kind] = limit
    return written(limits)


def written(limits: Limits) -> str:
    """The text of these limits, devices and kinds in order."""
    lines: dict[str, list[str]] = {}
    for device, kind in sorted(limits, key=lambda key: (*map(int, key[0].split(":")), KINDS.index(key[1]))):
        limit = limits[device, kind]
        lines.setdefault(device, []).append(f"{kind}={LIFTED if limit == UNLIMITED else limit}")
    return "\n".join(f"{device} {' '.join(parts)}" for device, parts in lines.items())


def parse_limits(text: str) -> Limits:
    """What a text says; what it does not name is unlimited.

    Raises:
        InputError: malformed.
    """
    limits: dict[tuple[str, str], int] = {}
    for line in text.splitlines():
        device, _, rest = line.strip().partition(" ")
        for part in rest.split():
            kind, _, value = part.partition("=")
            if kind in KINDS and _DEVICE.fullmatch(device):
                limits[device, kind] = UNLIMITED if value == LIFTED else whole(value)
            elif not _DEVICE.fullmatch(device):
                raise InputError(f"not a line of io.max: {line[:60]!r}")
    return limits


def agree(wanted: Limits, read: Limits) -> bool:
    """Whether everything wanted is so; what is not wanted does not matter."""
    return all(read.get(key, UNLIMITED) == limit for key, limit in wanted.items())


def keep(kept: str | None, read: str, wanted: str) -> str:
    """The original of every limit that was or will be ours, and of no other.

    Raises:
        InputError: malformed.
    """
    before, shown = parse_limits(kept or ""), parse_limits(read)
    ours = {key: shown.get(key, UNLIMITED) for key in parse_limits(wanted)}
    return written({**ours, **before})


def pieces(text: str) -> Sequence[str]:
    """One device per write."""
    return tuple(line for line in text.splitlines() if line.strip())


PLUGIN: Final = Knob(
    file="io.max",
    value=attrgetter("io_max"),
    format=format_limits,
    parse=parse_limits,
    agree=agree,
    pieces=pieces,
    keep=keep,
    yields=False,
)
