"""io.weight: a cgroup's share of a contended block device against its siblings.

    share = weight / Σ weight of the siblings with I/O on the device       [1..10000, the kernel starts at 100]

Only the default of all devices is ours; lines of single devices are left as they are. The file exists with the
iocost controller, and has an effect where io.cost.qos enables it for a device.
Source: kernel documentation, admin-guide/cgroup-v2, "IO Interface Files"; block/blk-iocost.c.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.common.errors import InputError
from neap.enforcer.core.knob import Knob, between, whole

_number: Final = between(1, 10_000, "of weight")


def format_weight(weight: int) -> str:
    """The default line.

    Raises:
        InputError: out of bounds.
    """
    return f"default {_number(weight)}"


def parse_weight(text: str) -> int:
    """The default, whatever single devices have.

    Raises:
        InputError: there is none.
    """
    for line in text.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == "default":
            return whole(words[1])
    raise InputError(f"no default in io.weight: {text[:40]!r}")


def inverse(text: str) -> str:
    """The default line of what was read.

    Raises:
        InputError: there is none.
    """
    return format_weight(parse_weight(text))


PLUGIN: Final = Knob(
    file="io.weight",
    value=attrgetter("io_weight"),
    format=format_weight,
    parse=parse_weight,
    inverse=inverse,
    enabled_by=("io.cost.qos", "enable=1"),
)
