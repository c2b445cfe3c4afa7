"""Pressure stall information of one resource of one cgroup, as the kernel keeps it.

Between two `set` calls the shares `some` and `full` (0..1) are constant, so the kernel's running averages have a
closed form and nothing need be done while nothing changes:

    avg_T(t + Δ) = share + (avg_T(t) − share) · exp(−Δ / T),  T = 10, 60, 300 s      total(t + Δ) = total(t) + share·Δ

Source: Linux kernel/sched/psi.c, calc_avgs (every 2 s, decay exp(−2/T): the same values at multiples of 2 s);
Documentation/accounting/psi.rst (format).
"""

from __future__ import annotations

from math import exp

from neap.common.units import Ratio, Seconds


class Stall:
    """See module docstring. Reading changes nothing."""

    __slots__ = ("_averages", "_shown", "_since", "_text", "_totals", "full", "some")

    def __init__(self, at: Seconds) -> None:
        self.some: Ratio = 0.0
        self.full: Ratio = 0.0
        self._since = at
        self._totals = (0.0, 0.0)
        self._averages: tuple[float, ...] = (0.0,) * 6
        self._shown: object = None  # what `_text` was made of
        self._text = ""

    def set(self, at: Seconds, some: Ratio, full: Ratio) -> None:
        """From `at` on the shares are these."""
        if some != self.some or full != self.full:
            self._averages, self._totals = self._folded(at)
            self._since, self.some, self.full = at, some, full

    def text(self, at: Seconds) -> str:
        """The pressure file at a time not before the last `set`."""
        shown = self._folded(at)
        if shown != self._shown:
            (s10, s60, s300, f10, f60, f300), (some, full) = shown
            self._shown = shown
            self._text = (
                f"some avg10={s10 * 100:.2f} avg60={s60 * 100:.2f} avg300={s300 * 100:.2f} total={some * 1e6:.0f}\n"
                f"full avg10={f10 * 100:.2f} avg60={f60 * 100:.2f} avg300={f300 * 100:.2f} total={full * 1e6:.0f}\n"
            )
        return self._text

    def _folded(self, at: Seconds) -> tuple[tuple[float, ...], tuple[float, float]]:
        passed = max(0.0, at - self._since)
        if not passed or self._averages == self._settled:
            return self._averages, (self._totals[0] + self.some * passed, self._totals[1] + self.full * passed)
        some, full = self.some, self.full
        s10, s60, s300, f10, f60, f300 = self._averages
        d10, d60, d300 = exp(-passed / 10.0), exp(-passed / 60.0), exp(-passed / 300.0)
        averages = (
            *(some + (s10 - some) * d10, some + (s60 - some) * d60, some + (s300 - some) * d300),
            *(full + (f10 - full) * d10, full + (f60 - full) * d60, full + (f300 - full) * d300),
        )
        return averages, (self._totals[0] + some * passed, self._totals[1] + full * passed)

    @property
    def _settled(self) -> tuple[float, ...]:
        """The averages after a long time."""
        return (self.some,) * 3 + (self.full,) * 3
