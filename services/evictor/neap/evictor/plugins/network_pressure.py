"""A network link is full: no guest comes. Nobody leaves, because nobody measures whose traffic it is.

    full(link) = max(received, sent) / speed      crowded:  full > soft      calm:  full ≤ soft      [ratio]

A link that does not say its speed (virtual ones) is not judged.
Source: kernel documentation, ABI/testing/sysfs-class-net (speed); Volcano (network watermarks, requirements 2.9).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta

from neap.common.model.usage import DeviceUsage
from neap.common.units import Ratio, format_bytes
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.view import Guest, Level, Victim, View, sane


class Settings(RuleSettings, frozen=True, kw_only=True):
    """When a link is full."""

    reports: Annotated[int, Meta(ge=1)] = 10  # reports in a row beyond before the node is closed
    dry_run: bool = True  # the node stays open
    soft: Annotated[Ratio, Meta(gt=0, le=1)] = 0.9  # of its speed: no guest comes


def pressure(view: View, settings: Settings) -> Sequence[Level]:
    """One level per link that says its speed."""
    return tuple(_levels(view, settings))


def _levels(view: View, settings: Settings) -> Iterator[Level]:
    for link in view.usage.links:
        moved = _moved(link)
        speed = sane(link.speed)
        if moved is None or not speed or speed < 1:
            continue
        full = moved / speed
        yield Level(
            metric=f"link {link.name}",
            value=full,
            threshold=settings.soft,
            need=0,
            calm=full <= settings.soft,
            why=f"{link.name} moves {format_bytes(int(moved))}/s, {full:.0%} of its speed",
            scope=link.name,
            crowded=full > settings.soft,
        )


def _moved(link: DeviceUsage) -> float | None:
    received, sent = sane(link.read), sane(link.write)
    return None if received is None or sent is None else max(received, sent)


def rank(_view: View, _level: Level, _candidates: Sequence[Guest]) -> Sequence[Victim]:
    """Nobody."""
    return ()


PLUGIN: Final = Rule(Settings, pressure, rank)
