"""How good forecasts were where they could not know the answer, and what follows for the bands around the next one.

r = (y − f) / (f + s)        s: a tenth of the mean value, so that a forecast of almost nothing has a band too
p90 = f + Q90(r)·(f + s)     Q over the back-test, for each group of leads; never below f

Relative, since what is used at night is also less wrong at night. Q is the quantile of n + 1 (conformal: Vovk 2005),
so few residuals make wide bands. A group with fewer than LEAST residuals takes the wider of its own and the next
shorter group's. Covers on a card are of the newer half of the origins, by bands made of the older half.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from neap.common.model.forecast import ReportCard
from neap.common.units import DAY, HOUR, MINUTE, Ratio, Seconds
from neap.foresight.past import Indices
from neap.foresight.series import Values
from neap.foresight.weighing import Group, relative

LEAST: Final = 50
LEVELS: Final = (0.90, 0.99)
SEASONAL: Final = "seasonal naive"  # as yesterday
BETTER: Final[Ratio] = 0.9  # of the error of "it stays"


@dataclass(frozen=True)
class Trials:
    """Past origins with what came: shape (origins, leads); NaN where nothing came. `heavy`: leads that each stands for."""

    leads: Indices
    split: Sequence[Group]
    values: Values
    heavy: Values
    scale: float  # s
    step: Seconds

    @property
    def hour(self) -> int:
        """Steps of an hour."""
        return max(1, round(HOUR / self.step))

    def error(self, paths: Values, span: slice | None = None) -> float | None:
        """MAPE of paths over the leads of `span`; None: nothing to judge by."""
        span = span or slice(None)
        errors = relative(paths[:, span], self.values[:, span])
        heavy = np.isfinite(errors) * self.heavy[span]
        total = float(heavy.sum())
        return float((np.where(np.isfinite(errors), errors, 0.0) * heavy).sum()) / total if total > 0 else None

    def count(self, paths: Values, span: slice) -> int:
        """Origins at which something could be judged."""
        return int(np.isfinite(relative(paths[:, span], self.values[:, span])).any(axis=1).sum())

    def bands(self, paths: Values, rows: slice | None = None) -> Values:
        """Q of each level and group of leads, shape (levels, groups); NaN: too little is known."""
        tall = paths + self.scale
        over = ((self.values - paths) / np.where(tall > 0, tall, 1.0))[rows or slice(None)]
        found = np.full((len(LEVELS), len(self.split)), np.nan)
        for place, group in enumerate(self.split):
            known = over[:, group.begin : group.end]
            known = np.sort(known[np.isfinite(known)])
            if len(known):
                ranks = [min(len(known) - 1, int(np.ceil(level * (len(known) + 1))) - 1) for level in LEVELS]
                found[:, place] = np.maximum(known[ranks], 0.0)
            if place and len(known) < LEAST:
                found[:, place] = np.fmax(found[:, place], found[:, place - 1])
        return found

    def spread(self, paths: Values, bands: Values) -> Values:
        """The bands around paths: shape (levels, *paths)."""
        sizes = [group.end - group.begin for group in self.split]
        return paths + np.repeat(bands, sizes, axis=1)[:, None, :] * (paths + self.scale)

    def card(
        self, model: str, paths: Values, *, seasonal: Values, naive: Values, why: str, last: int = 0
    ) -> ReportCard:
        """Judge paths beside the two everybody knows; `last`: only leads up to it."""
        span = slice(0, int(np.searchsorted(self.leads, last, side="right")) if last else len(self.leads))
        half = len(paths) // 2
        tops = self.spread(paths, self.bands(paths, slice(0, half)))[:, half:, span]
        came, heavy = self.values[half:, span], self.heavy[span]
        covers = [_share(came <= top, np.isfinite(came) & np.isfinite(top), heavy) for top in tops]
        error = self.error(paths, span)
        return ReportCard(
            model=model,
            origins=self.count(paths, span),
            horizon=float(self.leads[span][-1]) * self.step,
            mape=0.0 if error is None else error,
            seasonal_mape=self.error(seasonal, span),
            naive_mape=self.error(naive, span),
            p90_cover=covers[0],
            p99_cover=covers[1],
            under_minutes=0.0 if covers[1] is None else (1 - covers[1]) * DAY / MINUTE,
            why=why,
        )


def _share(marks: Values, known: Values, heavy: Values) -> Ratio | None:
    total = float((known * heavy).sum())
    return float((marks * known * heavy).sum()) / total if total > 0 else None


def may_drive(card: ReportCard) -> bool:
    """Whether what speaks under this card may be followed.

    It is on; or it is off because "as yesterday" did better than all models, speaks instead, and is clearly better than
    "it stays": then every evening's rush is known, and yesterday says when it comes.
    """
    if card.on:
        return True
    known = card.naive_mape is not None and card.seasonal_mape is not None
    return known and card.model == SEASONAL and card.mape <= BETTER * (card.naive_mape or 0.0)
