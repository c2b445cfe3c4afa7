"""A file system that pods share is almost full: of bytes, or of inodes.

    left   = free / size, of bytes and of inodes; the smaller counts                                            [ratio]
    crowded: left < soft      beyond: left < ratio      calm: left >= soft

One guest leaves at a time: of those that write, by how much, because nobody measures whose bytes lie there; its
scratch space goes with it. File systems below `smallest` are not judged, nor what does not say its size. The kubelet
has thresholds of its own (10 % of bytes, 5 % of inodes): ours are above them, so that guests go before it acts.
Source: katalyst-core rootfs-pressure (reference 5: value or %, disks below 10 Gi ignored, reclaimed first); kubelet
node-pressure eviction, defaults nodefs.available<10%, nodefs.inodesFree<5%.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.model.usage import FilesystemUsage
from neap.common.units import GIB, Bytes, Ratio, format_bytes
from neap.evictor.core.rank import by_rate
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View, sane


class Settings(RuleSettings, frozen=True, kw_only=True):
    """When a shared file system is full."""

    reports: Annotated[int, Meta(ge=1)] = 10  # reports in a row beyond before a guest leaves
    dry_run: bool = True  # only count and log who would leave
    soft: Annotated[Ratio, Meta(gt=0, le=1)] = 0.15  # left, of bytes: no guest comes
    ratio: Annotated[Ratio, Meta(gt=0, le=1)] = 0.12  # left, of bytes: beyond
    inodes_soft: Annotated[Ratio, Meta(gt=0, le=1)] = 0.10  # left, of inodes: no guest comes
    inodes: Annotated[Ratio, Meta(gt=0, le=1)] = 0.07  # left, of inodes: beyond
    smallest: Annotated[Bytes, Meta(ge=0)] = 10 * GIB  # file systems below are not judged


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """Up to two levels per file system."""
    return tuple(level for one in view.usage.filesystems for level in _levels(one, view, settings))


def _levels(one: FilesystemUsage, view: View, settings: Settings) -> Iterator[Level]:
    size, free = sane(one.size), sane(one.free)
    if size is None or free is None or not size or size < settings.smallest or free > size:
        return
    told = f"{format_bytes(int(free))} of {format_bytes(int(size))}"
    yield _level(one.path, "bytes", (free / size, told), (settings.soft, settings.ratio), view)
    inodes, left = sane(one.inodes), sane(one.inodes_free)
    if inodes and left is not None and left <= inodes:
        told = f"{left:.0f} of {inodes:.0f} inodes"
        yield _level(one.path, "inodes", (left / inodes, told), (settings.inodes_soft, settings.inodes), view)


def _level(path: str, what: str, is_now: tuple[Ratio, str], thresholds: tuple[Ratio, Ratio], view: View) -> Level:
    (left, told), (soft, ratio) = is_now, thresholds
    least = min(soft, ratio)
    return Level(
        metric=f"{what} left on {path}",
        value=left,
        threshold=least,
        need=int(left < least and not view.leaving),
        calm=left >= soft,
        why=f"{told} left on {path}, {left:.1%}; {least:.0%} are wanted",
        scope=f"{what} {path}",
        crowded=left < soft,
    )


def rank(_: View, level: Level, candidates: Sequence[Guest]) -> Sequence[Victim]:
    """By what they write; in whole bytes a second."""
    return by_rate(((guest, guest.written) for guest in candidates), "writes", level.need)


PLUGIN: Final = Rule(Settings, pressure, rank)
