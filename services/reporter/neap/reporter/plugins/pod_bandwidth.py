"""Memory traffic and L3 occupancy of pods that have a monitoring group of their own in resctrl.

    bandwidth = Σ over L3s of Δmbm_total_bytes / Δt      [bytes per second]
    cache     = Σ over L3s of llc_occupancy              [bytes]

A group belongs to the pod whose uid is its name, with or without "pod" before it, "-" or "_" within. It counts the
whole pod, so it is told of a container only where the pod has no other. Cycles per instruction would need perf events,
one file descriptor per CPU and container: ContainerUsage.cpi stays unknown, the kernel offers it in no file.
Source: kernel documentation, filesystems/resctrl, "mon_groups".
"""

from __future__ import annotations

from typing import Final

from neap.common.units import Seconds
from neap.reporter.core.collector import CALM, POD, Collector, Fields, Scope, Surroundings, Values, Wants
from neap.reporter.core.resctrl import DATA, RESCTRL, domains, sums

GROUPS: Final = "mon_groups"


def wants(around: Surroundings) -> Wants:
    """Two files per monitoring group and L3."""
    above = [RESCTRL, *(f"{RESCTRL}/{name}" for name in around.listed(RESCTRL))]
    found = {
        f"{group}/{GROUPS}/{name}": name.removeprefix("pod").replace("_", "-")
        for group in above
        for name in around.listed(f"{group}/{GROUPS}")
    }
    return domains(around, found)


def rate(before: Values | None, now: Values, seconds: Seconds) -> Fields:
    """Traffic since the reading before, occupancy now; by uid."""
    bandwidth, held = sums(before, now, seconds, key=lambda group, _domain: group)
    return {f"{POD}bandwidth": bandwidth, f"{POD}cache": held}


LISTS: Final = (
    *(RESCTRL, f"{RESCTRL}/{GROUPS}", f"{RESCTRL}/*/{GROUPS}"),
    *(f"{RESCTRL}/{GROUPS}/*/{DATA}", f"{RESCTRL}/*/{GROUPS}/*/{DATA}"),
)
PLUGIN: Final = Collector(Scope.NODE, wants, rate, every=CALM, lists=LISTS)
