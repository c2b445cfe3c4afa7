"""A guest holds more memory than it asked for: eviction on RSS overuse.

    beyond:  working_set > ratio × request      calm:  working_set ≤ calm × request      [bytes, per guest]

Its own ratio, annotation neap.io/memory-overuse or `rss_overuse_threshold` of Katalyst's memory_enhancement, replaces
the setting; one that is no number above 0 keeps it from being judged. So does a container without a memory request,
a missing measurement, and a label that `only` asks for and it has not.
Source: katalyst-core evictionmanager/plugin/memory/rss_overuse.go (idea, annotation); requirements 002-57 (1.2);
acceptance case A23.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.model.enhancement import MEMORY_KEY
from neap.common.model.oom import wish_of
from neap.common.model.resource import MEMORY, RECLAIMED_MEMORY
from neap.common.model.workload import Workload
from neap.common.units import Ratio, format_bytes
from neap.evictor.core.rank import the_one
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View

RATIO_KEY: Final = "neap.io/memory-overuse"


class Settings(RuleSettings, frozen=True, kw_only=True):
    """How much more is too much."""

    reports: Annotated[int, Meta(ge=1)] = 3  # reports in a row beyond before the guest leaves
    ratio: Annotated[Ratio, Meta(gt=0)] = 1.2  # of the request: beyond
    calm: Annotated[Ratio, Meta(ge=0)] = 1.1  # of the request: over
    only: tuple[str, ...] = ()  # labels, as "key=value", that a guest must have to be judged; empty: everybody


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """One level per guest."""
    return tuple(_levels(view, settings))


def _levels(view: View, settings: Settings) -> Iterator[Level]:
    for guest in view.guests:
        request, held = guest.memory_asked, guest.working_set
        ratio = ratio_of(guest.workload, settings.ratio)
        if held is None or ratio is None or not _is_judged(guest.workload, settings):
            continue
        beyond = held > ratio * request
        yield Level(
            metric="working set",
            value=held,
            threshold=ratio * request,
            need=int(beyond),
            calm=held <= min(settings.calm, ratio) * request,
            why=_why(held, request, ratio) if beyond else "",
            scope=guest.uid,
        )


def ratio_of(workload: Workload, otherwise: Ratio) -> Ratio | None:
    """What a guest may hold of its request; None: it is not to be judged."""
    text = wish_of(workload.annotations, RATIO_KEY, MEMORY_KEY, "rss_overuse_threshold")
    if text is None:
        return otherwise
    try:
        wish = float(text)
    except ValueError:
        return None
    return wish if math.isfinite(wish) and wish > 0 else None


def _is_judged(workload: Workload, settings: Settings) -> bool:
    written = {f"{key}={value}" for key, value in workload.labels.items()}
    if not written.issuperset(settings.only):
        return False
    requests = [container.requests for container in workload.containers]
    return bool(requests) and all(asked.get(RECLAIMED_MEMORY) or asked.get(MEMORY) for asked in requests)


def _why(held: int, request: int, ratio: Ratio) -> str:
    times = f"{held / request:.2f} × its request of {format_bytes(request)}"
    return f"working set {format_bytes(held)} is {times}, {ratio:g} × is allowed"


def rank(_: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """The one it is about."""
    return the_one(level, candidates, lambda guest: guest.working_set or 0)


PLUGIN: Final = Rule(Settings, pressure, rank)
