"""What the live view shows, folded from what the bus says. Pure; the shell draws it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from neap.common.model.advice import Headroom
from neap.common.model.day import DayReport
from neap.common.model.qos import QosClass
from neap.common.model.resource import RECLAIMED_CPU
from neap.common.model.trail import TrailEntry
from neap.console.core.figure import Sample
from neap.console.core.moment import when

NEWSWORTHY: Final = frozenset({"chosen", "evicted", "squeezed", "refused", "requeued"})
LAST_ACTS: Final = 8
BAR: Final = 40
MOST_SAMPLES: Final = 10_000


@dataclass
class Progress:
    """The newest report, the offers of all nodes, the last acts worth showing."""

    report: DayReport | None = None
    offers: dict[str, int] = field(default_factory=dict)
    acts: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_ACTS))
    evicted: str = ""  # the last guest that was evicted
    _why: str = ""  # of the last act seen
    samples: deque[Sample] = field(default_factory=lambda: deque(maxlen=MOST_SAMPLES))

    def see(self, message: DayReport | Headroom | TrailEntry) -> None:
        """Fold one message."""
        match message:
            case DayReport():
                self.report = message
                self.samples.append(_sample(message))
            case Headroom():
                self.offers[message.node] = message.offer.get(RECLAIMED_CPU, 0)
            case TrailEntry(what=what) if what.split()[0] in NEWSWORTHY:
                if what == "evicted":
                    self.evicted = f"{message.about.namespace}/{message.about.name}"
                if message.why != self._why:  # one squeeze of a pool is told of every guest in it; once will do here
                    self.acts.append(f"{when(message.at)} {message.source:<9} {message.about.name}: {message.why}")
                self._why = message.why

    def hints(self) -> list[str]:
        """What to ask next."""
        return [f"try: neap why pod {self.evicted}"] if self.evicted else []

    @property
    def done(self) -> float:
        """Share of the day that is over."""
        if self.report is None:
            return 0.0
        return min(1.0, (self.report.at - self.report.day_start) / (self.report.day_end - self.report.day_start))

    def facts(self) -> list[tuple[str, str]]:
        """(label, text) rows of the view."""
        report = self.report
        if report is None:
            return [("starting", "waiting for the first virtual minute")]
        busy = {level: report.recent_cores.get(level, 0.0) / report.capacity_cores for level in QosClass}
        guests, owners = busy.pop(QosClass.RECLAIMED), sum(busy.values())
        offer = sum(self.offers.values()) / 1000
        share = report.violation_minutes / report.service_minutes if report.service_minutes else 0.0
        evicted = ", ".join(f"{rule} {count}" for rule, count in sorted(report.evictions.items())) or "none"
        return [
            (
                "day",
                f"{bar(self.done)} {when(report.at)}"
                + (f", {report.behind:.0f} s behind" if report.behind > 120 else ""),
            ),
            ("owners", f"{bar(owners)} {owners:6.1%}"),
            ("guests", f"{bar(guests)} {guests:6.1%}"),
            ("all", f"{bar(owners + guests)} {owners + guests:6.1%}"),
            ("headroom", f"{offer:.0f} cores offered to guests on {len(self.offers)} nodes"),
            ("running", ", ".join(f"{count} {level}" for level, count in sorted(report.running.items()) if count)),
            ("evictions", evicted),
            (
                "owner SLO",
                f"{report.violation_minutes} of {report.service_minutes} service-minutes violated ({share:.3%})",
            ),
        ]


def _sample(report: DayReport) -> Sample:
    guests = report.recent_cores.get(QosClass.RECLAIMED, 0.0)
    owners = sum(report.recent_cores.values()) - guests
    evictions = sum(report.evictions.values())
    cores = report.capacity_cores
    return Sample(report.at - report.day_start, owners / cores, guests / cores, evictions)


def bar(ratio: float, width: int = BAR) -> str:
    """0.5 -> "████████··········"."""
    full = round(max(0.0, min(1.0, ratio)) * width)
    return "█" * full + "·" * (width - full)


def one_line(progress: Progress) -> str:
    """The view on one line, for logs and pipes."""
    report = progress.report
    if report is None:
        return "starting"
    guests = report.recent_cores.get(QosClass.RECLAIMED, 0.0)
    owners = sum(report.recent_cores.values()) - guests
    return (
        f"{when(report.at)}  {progress.done:4.0%}  owners {owners / report.capacity_cores:5.1%}"
        f"  guests {guests / report.capacity_cores:5.1%}  offer {sum(progress.offers.values()) / 1000:5.0f} cores"
        f"  guests running {report.running.get(QosClass.RECLAIMED, 0)}  evictions {sum(report.evictions.values())}"
        f"  SLO violations {report.violation_minutes}/{report.service_minutes}"
    )
