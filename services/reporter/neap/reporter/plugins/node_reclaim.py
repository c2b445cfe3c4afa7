"""Pages taken back from their users, and pages needed again after that, on the machine and per NUMA node.

    reclaimed = Δ(pgsteal_kswapd + pgsteal_direct) / Δt                          [pages per second, no unit of bytes]
    refaults  = Δ(workingset_refault_anon + workingset_refault_file) / Δt        [pages per second]

Memory is not short while pages are only taken back; it is when they come back. Kernels before 5.9 count both kinds of
refault in one line, `workingset_refault`. Older kernels count steals for the machine only: then they are unknown per
node, unless there is but one.
Source: kernel mm/vmstat.c (names), mm/workingset.c; drivers/base/node.c (per node).
"""

from __future__ import annotations

from functools import partial
from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import (
    MACHINE,
    NUMA,
    Collector,
    Fields,
    Scope,
    Surroundings,
    Values,
    Wants,
    per_second,
)
from neap.reporter.core.text import value_if

NODE_DIR: Final = "/sys/devices/system/node"
Pages = tuple[int | None, int | None]  # reclaimed, refaulted


def parse_vmstat(text: str) -> Pages:
    """Pages reclaimed and refaulted since boot; None where the kernel does not count them here."""
    steals = (value_if(text, "pgsteal_kswapd "), value_if(text, "pgsteal_direct "))
    refaults = (value_if(text, "workingset_refault_anon "), value_if(text, "workingset_refault_file "))
    if " " not in text:
        raise ValueError("no vmstat file")
    return _sum(steals), _sum(refaults) if refaults != (None, None) else value_if(text, "workingset_refault ")


def wants(around: Surroundings) -> Wants:
    """The machine's file, and one per NUMA node."""
    return (
        ("/proc/vmstat", partial(_of, MACHINE)),
        *((f"{NODE_DIR}/node{index}/vmstat", partial(_of, index)) for index in around.numa),
    )


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """Pages per second."""
    earlier: dict[int, Pages] = dict(value for value in before or () if value is not None)
    reclaimed, refaults = dict[int, float | None](), dict[int, float | None]()
    for index, pages in (value for value in now if value is not None):
        was = earlier.get(index, (None, None))
        reclaimed[index] = per_second(was[0], pages[0], seconds)
        refaults[index] = per_second(was[1], pages[1], seconds)
    return {
        "reclaimed": reclaimed.get(MACHINE),
        "refaults": refaults.get(MACHINE),
        f"{NUMA}reclaimed": reclaimed,
        f"{NUMA}refaults": refaults,
    }


def _of(index: int, text: str) -> tuple[int, Pages]:
    return index, parse_vmstat(text)


def _sum(parts: tuple[int | None, int | None]) -> int | None:
    """The sum of what is there: a kernel that counts one of them may not have the other's cause."""
    return None if parts[0] is None or parts[1] is None else parts[0] + parts[1]


PLUGIN: Final = Collector(Scope.NODE, wants, rate)
