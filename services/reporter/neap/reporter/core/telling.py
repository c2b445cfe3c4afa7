"""How much of a report is sent: all of it, what moved since the last full one, or nothing.

    full     every `full_every` reports, when other containers are here, and when a short one would list them all
    short    containers that moved since the last *full* report, so a short one that is lost costs nothing
    nothing  when nothing moved since the last report that was sent, at most `skip_at_most` times in a row

    moved(a, b) = |a − b| > max(threshold of the field, moved_ratio · |b|), or one of both is unknown, or text differs

A report is never longer than LARGEST bytes: containers that do not fit are left out, best-effort ones first, and
`unknown` says how many. No report is skipped by default: readers judge by its age whether the reporter is alive.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.units import KIB
from neap.reporter.settings import Settings

LARGEST: Final = 256 * KIB  # bytes of one message
SURELY: Final = 16  # so many containers fit whatever they are called
HEADER: Final = ("at", "seq", "period", "since")  # differ in every report, and say nothing about the node
BYTES: Final = ("memory", "bytes", "cache", "working_set", "io_", "read", "write", "bandwidth", "watermark")
EXACT: Final = ("oom_kills", "index", "memory_total")


class Telling:
    """What was said last, and what is to be said now."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._full: NodeUsage | None = None
        self._sent: NodeUsage | None = None  # the last one, with all its containers
        self._short = self._skipped = 0  # reports since the last full one; not sent in a row
        self._thresholds: dict[type, tuple[tuple[str, float], ...]] = {}

    def tell(self, usage: NodeUsage) -> NodeUsage | None:
        """The message for a report; None: it is skipped."""
        usage = fitted(usage)
        settings, full = self._settings, self._full
        if self._sent is not None and self._skipped < settings.skip_at_most and not self._moved(usage, self._sent):
            self._skipped += 1
            self._short += 1
            return None
        self._sent, self._skipped = usage, 0
        if full is not None and self._short + 1 < settings.full_every and _same_places(usage, full):
            pairs = zip(usage.containers, full.containers, strict=True)
            moved = tuple([now for now, then in pairs if now is not then and self._moved(now, then)])
            if len(moved) < len(full.containers):
                self._short += 1
                return replace(usage, containers=moved, since=full.seq)
        self._full, self._short = usage, 0
        return usage

    def _moved(self, now: Any, then: Any) -> bool:
        """Whether anything in a Struct is beyond its threshold."""
        for name, least in self._thresholds.get(type(now)) or self._thresholds_of(type(now)):
            mine, other = getattr(now, name), getattr(then, name)
            if mine is other or mine == other:
                continue
            if self._differs(mine, other, least):
                return True
        return False

    def _differs(self, now: Any, then: Any, least: float) -> bool:
        if isinstance(now, int | float) and isinstance(then, int | float):
            return abs(now - then) > max(least, self._settings.moved_ratio * abs(then) if least else 0.0)
        if isinstance(now, tuple) and isinstance(then, tuple) and len(now) == len(then):
            return any(self._differs(*pair, least) for pair in zip(now, then, strict=True) if pair[0] is not pair[1])
        if isinstance(now, msgspec.Struct) and type(now) is type(then):
            return self._moved(now, then)
        return bool(now != then)

    def _thresholds_of(self, kind: type) -> tuple[tuple[str, float], ...]:
        names = [name for name in kind.__struct_fields__ if name not in HEADER]  # type: ignore[attr-defined]
        self._thresholds[kind] = tuple((name, threshold(self._settings, name)) for name in names)
        return self._thresholds[kind]


def threshold(settings: Settings, name: str) -> float:
    """By how much a field of this name must change to be told; 0: by anything."""
    if name in EXACT:
        return 0.0
    if name in ("refaults", "reclaimed", "errors"):
        return settings.moved_pages
    if name == "power":
        return settings.moved_watts
    return settings.moved_bytes if name.startswith(BYTES) else settings.moved_cores


def _same_places(now: NodeUsage, then: NodeUsage) -> bool:
    mine, others = now.containers, then.containers
    return len(mine) == len(others) and all(
        one is other or one.cgroup == other.cgroup for one, other in zip(mine, others, strict=True)
    )


def fitted(usage: NodeUsage) -> NodeUsage:
    """The report with as many containers as fit into LARGEST bytes."""
    encode = msgspec.json.encode
    if len(usage.containers) <= SURELY or len(encode(usage)) <= LARGEST - KIB:
        return usage
    left = LARGEST - KIB - len(encode(replace(usage, containers=())))
    kept, position = set[int](), {id(each): number for number, each in enumerate(usage.containers)}
    for each in sorted(usage.containers, key=_is_best_effort):
        left -= len(encode(each)) + 1
        if left < 0:
            break
        kept.add(position[id(each)])
    more = f"{len(usage.containers) - len(kept)} containers: a report has at most {LARGEST} bytes"
    chosen = tuple(each for number, each in enumerate(usage.containers) if number in kept)
    return replace(usage, containers=chosen, unknown=(*usage.unknown, more))


def _is_best_effort(container: ContainerUsage) -> bool:
    return "besteffort" in container.cgroup
