"""cpu.max.burst: quota that a cgroup may save up while it is idle and spend above its cpu.max later.

    burst = cores × 100 ms, burst ≤ quota unless the quota is lifted       [µs; 0 lifts it]

The kernel refuses a burst above the quota and a quota below the burst, so a burst that shrinks goes before cpu.max
and one that grows after it.
Source: kernel documentation, admin-guide/cgroup-v2, "CPU Interface Files" (Linux ≥ 5.14); kernel/sched/core.c,
tg_set_cfs_bandwidth.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.common.cpuset import LARGEST_CPU
from neap.common.errors import InputError
from neap.common.units import Cores
from neap.enforcer.core.knob import Knob, whole

PERIOD_US: Final = 100_000  # as plugins/cpu_max.py


def format_burst(cores: Cores) -> str:
    """Cores over one period, in microseconds.

    Raises:
        InputError: not a number, negative, or more than any machine has.
    """
    if not 0 <= cores < LARGEST_CPU:
        raise InputError(f"{cores} cores are no burst (0 and more)")
    return str(round(cores * PERIOD_US))


def turn(wanted: str, read: str) -> int:
    """Before cpu.max when it shrinks, after it when it grows.

    Raises:
        InputError: not a burst.
    """
    return 1 if whole(wanted) > whole(read) else -1


PLUGIN: Final = Knob(file="cpu.max.burst", value=attrgetter("cpu_burst"), format=format_burst, parse=whole, turn=turn)
