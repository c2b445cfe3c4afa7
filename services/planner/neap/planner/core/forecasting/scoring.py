"""How forecasts that were published turned out: the report card that no back-test can flatter.

Of each series a few forecasts are kept until their time has passed, then compared with what came, beside "as yesterday"
and "it stays" from the same origin. A sum loses a tenth of its weight with each forecast that is added: the last ten or
so count.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neap.common.model.forecast import Forecast, ReportCard
from neap.common.units import DAY, MINUTE, Ratio
from neap.foresight.series import Series, Values

KEPT: Final = 4  # forecasts on their way, evenly over their horizon
FADE: Final = 0.9
LIVE: Final = "published"
RETURN: Final[Ratio] = 0.98  # of the rival's error: what was switched off speaks again below that


@dataclass(slots=True)
class Score:
    """One series' record. Sums: ours, seasonal naive, naive, below p90, below p99, weight."""

    waiting: deque[Forecast] = field(default_factory=deque)
    sums: Values = field(default_factory=lambda: np.zeros(6))
    seasonal: float = 0.0  # weight of the values that had a yesterday
    trials: int = 0
    is_off: bool = False

    def publish(self, forecast: Forecast) -> None:
        """Keep it for later, if the ones kept are not too close."""
        apart = len(forecast.values) * forecast.step / KEPT
        if not self.waiting or forecast.start - self.waiting[-1].start >= apart:
            self.waiting.append(forecast)

    def compare(self, came: Series, least: int) -> None:
        """Judge what is over; `least` trials must have been before anything is switched off."""
        while self.waiting and _end(self.waiting[0]) <= came.end:
            self._judge(self.waiting.popleft(), came)
        card = self.card()
        if card is not None and self.trials >= least:
            rival = card.naive_mape if card.seasonal_mape is None else card.seasonal_mape
            if rival is not None:
                self.is_off = card.mape > rival * (RETURN if self.is_off else 1.0)

    def card(self) -> ReportCard | None:
        """What the record says; None: nothing was judged yet."""
        ours, seasonal, naive, p90, p99, weight = (float(part) for part in self.sums)
        if weight <= 0:
            return None
        return ReportCard(
            model=LIVE,
            origins=self.trials,
            horizon=0.0,
            mape=ours / weight,
            seasonal_mape=seasonal / self.seasonal if self.seasonal > 0 else None,
            naive_mape=naive / weight,
            p90_cover=p90 / weight,
            p99_cover=p99 / weight,
            under_minutes=(1 - p99 / weight) * DAY / MINUTE,
            on=not self.is_off,
            why="published forecasts against what came",
        )

    def _judge(self, forecast: Forecast, came: Series) -> None:
        first, count = round((forecast.start - came.start) / came.step), len(forecast.values)
        day = round(DAY / came.step)
        if forecast.step != came.step or first < 1:
            return
        values = came.values[first : first + count]
        known = np.isfinite(values) & (values > 0)
        before = came.values[:first]
        before = before[np.isfinite(before)]
        if not known.any() or not len(before):
            return
        places = first + np.arange(len(values)) - day * -(-(np.arange(len(values)) + 1) // day)
        yesterday = np.where(places >= 0, came.values[np.maximum(places, 0)], np.nan)
        both = known & np.isfinite(yesterday)
        told, p90, p99 = (np.asarray(line) for line in (forecast.values, forecast.p90, forecast.p99))
        counts = ((values <= p90)[known].sum(), (values <= p99)[known].sum(), known.sum())
        new = np.array(
            [_off(told, values, known), _off(yesterday, values, both), _off(before[-1:], values, known), *counts],
            dtype=np.float64,
        )
        self.sums, self.seasonal = FADE * self.sums + new / count, FADE * self.seasonal + float(both.sum()) / count
        self.trials += 1


def _off(told: Values, values: Values, where: NDArray[np.bool_]) -> float:
    """Sum of |f − y| / y over the marked places."""
    return float((np.abs(told - values) / np.where(values > 0, values, 1.0))[where].sum())


def _end(forecast: Forecast) -> float:
    return forecast.start + len(forecast.values) * forecast.step
