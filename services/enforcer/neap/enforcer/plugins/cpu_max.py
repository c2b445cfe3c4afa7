"""cpu.max: the bandwidth limit of a cgroup.

    "quota period" in microseconds, cores = quota / period; "max period" lifts it       [µs]

Our period is the kernel's default, 100 ms; the smallest quota the kernel takes is 1 ms. inf and -1 lift the limit
(JSON cannot carry inf).
Source: kernel documentation, admin-guide/cgroup-v2, "CPU Interface Files".
"""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Final

from neap.common.cpuset import LARGEST_CPU
from neap.common.errors import InputError
from neap.common.units import Cores
from neap.enforcer.core.knob import LIFTED, Knob

PERIOD_US: Final = 100_000
SMALLEST_QUOTA_US: Final = 1_000


def format_cpu_max(cores: Cores) -> str:
    """Cores as quota and period.

    Raises:
        InputError: not a number, not positive, or more than any machine has.
    """
    if cores in (math.inf, -1):
        return f"{LIFTED} {PERIOD_US}"
    if not 0 < cores < LARGEST_CPU:
        raise InputError(f"{cores} cores are no limit (above 0; -1 or inf lifts it)")
    return f"{max(SMALLEST_QUOTA_US, round(cores * PERIOD_US))} {PERIOD_US}"


def parse_cpu_max(text: str) -> Cores:
    """Quota and period as cores; the kernel's default period where none is shown.

    Raises:
        InputError: malformed.
    """
    parts = text.split()
    try:
        period = int(parts[1]) if parts[1:] else PERIOD_US
        return math.inf if parts[0] == LIFTED else int(parts[0]) / period
    except (IndexError, ValueError, ArithmeticError):
        raise InputError(f"not a cpu.max: {text[:40]!r}") from None


PLUGIN: Final = Knob(
    file="cpu.max", value=attrgetter("cpu_max"), format=format_cpu_max, parse=parse_cpu_max, agree=math.isclose
)
