"""Memory traffic and L3 occupancy per NUMA node, by resctrl.

    bandwidth = Σ over the node's L3s and all control groups of Δmbm_total_bytes / Δt      [bytes per second]
    cache     = Σ over the same of llc_occupancy                                           [bytes]

The numbers of a control group contain those of its monitoring groups, the root's do not contain the other control
groups'. A node's L3s are told by the `id` of the cache; where an L3 serves several NUMA nodes (sub-NUMA clusters) it
cannot be split, and they are unknown. A domain that says "Unavailable" or "Error" makes its node unknown.
Source: kernel documentation, arch/x86/resctrl (filesystems/resctrl), "mon_data".
"""

from __future__ import annotations

from functools import partial
from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import CALM, NUMA, Collector, Fields, Scope, Surroundings, Values, Wants, known_sum
from neap.reporter.core.resctrl import DATA, RESCTRL, domains, sums
from neap.reporter.core.text import count

ID: Final = "/sys/devices/system/cpu/cpu{cpu}/cache/index3/id"


def groups(around: Surroundings) -> list[str]:
    """The directories of all control groups, the root's first."""
    found = [RESCTRL, *(f"{RESCTRL}/{name}" for name in around.listed(RESCTRL))]
    return [group for group in found if around.listed(f"{group}/{DATA}")]


def wants(around: Surroundings) -> Wants:
    """The ids of the caches, and two files per group and cache."""
    if not (found := groups(around)):
        return ()
    ids = tuple((ID.format(cpu=cpu), partial(_id, node)) for cpu, node in around.caches)
    return (*ids, *domains(around, {group: group for group in found}))


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """Traffic since the reading before, occupancy now."""
    homes = [value for value in now if value is not None and value[0] == "id"]
    bandwidth, held = sums(before, now, seconds, key=lambda _group, domain: domain)
    nodes = sorted({node for _, node, _ in homes})
    return {
        f"{NUMA}bandwidth": {node: _of(node, homes, bandwidth) for node in nodes},
        f"{NUMA}cache": {node: _of(node, homes, held) for node in nodes},
    }


def _of(node: int, homes: list[tuple[str, int, int]], of: dict[object, float | None]) -> float | None:
    total: float | None = known_sum([of.get(domain) for _, home, domain in homes if home == node])
    return total


def _id(node: int, text: str) -> tuple[str, int, int]:
    return "id", node, count(text)


LISTS: Final = (RESCTRL, f"{RESCTRL}/{DATA}", f"{RESCTRL}/*/{DATA}")
PLUGIN: Final = Collector(Scope.NODE, wants, rate, every=CALM, lists=LISTS)
