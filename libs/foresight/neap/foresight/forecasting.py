"""Forecasts with a report card: every model is tried on the series' own past, and the better ones share the word.

    foretold = forecast(Series(start, 300.0, values), 288)
    foretold.values, foretold.p90, foretold.p99, foretold.cards

1. what cannot be is named and left out (cleaning), outages and former levels are no pattern (regimes)
2. back-test: every model tells paths from up to MOST_ORIGINS origins of the last two weeks, each from its past only
3. models are weighed by what they did there, lead by lead (weighing); the mixture is judged at the same origins, with
   the weights of then. Where it is worse than "as yesterday" or "it stays", that one speaks instead, and it is said
4. bands: quantiles of what the values were above the chosen path at those origins, relative to its height

Pure and deterministic; nothing after the series' end is looked at, by construction: it is not there.
Cost: about 10 ms for a day ahead from two weeks of five minutes, see tests/bench/forecasts.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec
import numpy as np

from neap.common.model.forecast import ReportCard
from neap.common.units import DAY, HOUR, Ratio, Seconds
from neap.foresight import periods, regimes
from neap.foresight.cleaning import sane
from neap.foresight.judging import LEVELS, SEASONAL, Trials
from neap.foresight.models import ewma, holt_winters, naive, percentile, seasonal, seasonal_naive
from neap.foresight.past import Indices, Model, Past
from neap.foresight.series import Series, Values
from neap.foresight.weighing import Group, groups, mixed, relative, weigh

MODELS: Final[Mapping[str, Model]] = {
    "ewma": ewma.PLUGIN,
    "holt_winters": holt_winters.PLUGIN,
    "naive": naive.PLUGIN,
    "percentile": percentile.PLUGIN,
    "seasonal": seasonal.PLUGIN,
    "seasonal_naive": seasonal_naive.PLUGIN,
}
MOST_ORIGINS: Final = 84
BACK: Final[Seconds] = 14 * DAY  # of back-test
CLOSEST: Final[Seconds] = HOUR  # between origins
MOST_OTHERS: Final = 4  # other models whose cards are shown
MIXTURE: Final = "combination"
NAIVE: Final = "naive"
SMALL: Final[Ratio] = 0.1
CLEARLY: Final = 1.02  # times its error
NOTHING: Final = 1e-15  # of the highest value
ROUNDING: Final = 1e-9  # of a relative error: no difference
FEW: Final = 8  # leads looked at in each group of the back-test


@dataclass(frozen=True)
class Foretold:
    """What is expected from `start` on, and how good that was until now. Empty values: nothing can be said, see `said`."""

    start: Seconds
    step: Seconds
    values: Values
    p90: Values
    p99: Values
    cards: tuple[ReportCard, ...] = ()  # of what speaks over the whole path, over the first hour, then of the others
    said: tuple[str, ...] = ()  # what was left out of the series, and why

    @property
    def is_on(self) -> bool:
        """Whether it may drive decisions: it was judged, and does not lose to what needs no forecast."""
        return bool(self.cards) and self.cards[0].on


def forecast(series: Series, count: int, models: Mapping[str, Model] = MODELS, *, judged: bool = True) -> Foretold:
    """The next `count` values of a series. See module docstring.

    Args:
        series: what was measured; NaN is unknown.
        count: steps ahead, at least one.
        models: what competes; "naive" and "seasonal_naive" must be among them.
        judged: whether report cards are wanted (half of the work).
    """
    kept, said = sane(series)
    if not np.isfinite(kept.values).any():
        nothing = np.empty(0)
        return Foretold(series.end, series.step, nothing, nothing, nothing, said=(*said, "no value is known"))
    unit = float(np.nanmax(kept.values)) or 1.0  # all else in shares of the highest value: no scale is special
    shares = kept.values / unit
    kept = replace(kept, values=np.where(shares < NOTHING, 0.0, shares))
    day = round(DAY / kept.step) if abs(DAY / kept.step - round(DAY / kept.step)) < 1e-9 else 0
    usable, began = regimes.usable(kept.values, day)
    if began:
        said = (
            *said,
            f"the level changed {(len(kept) - began) * kept.step / HOUR:.1f} h before the end: only what came since is used",
        )
    found = tuple(period for period in periods.periods(usable, kept.step) if not day or abs(period - day) > day / 24)
    past = Past(kept.values, usable, kept.step, day if len(kept) >= day else 0, found)
    backtest = _tried(past, began, count, models)
    leads = _leads(count)
    paths = np.stack(list(_paths(past, np.array([len(past)]), leads, models).values()))
    mixture = mixed(paths, backtest.weights[:, -1:], groups(leads))
    chosen = backtest.blend(mixture, paths, groups(leads))
    chosen = np.where(np.isfinite(chosen), chosen, paths[backtest.names.index(NAIVE)])
    bands = backtest.trials.bands(backtest.speaking)
    tops = replace(backtest.trials, split=groups(leads)).spread(chosen, bands)
    tops = np.where(np.isfinite(tops), tops, _highest(past, chosen))
    cards = backtest.cards() if judged else ()
    return Foretold(kept.end, kept.step, unit * chosen[0], unit * tops[0, 0], unit * tops[1, 0], cards, said)


def _highest(past: Past, chosen: Values) -> Values:
    """Bands where nothing was judged: no lower than the percentiles of what is known."""
    levels = np.nanquantile(past.seen, LEVELS)
    return np.maximum(chosen[None], levels[:, None, None])


@dataclass(frozen=True)
class _Backtest:
    """What every model told at past origins, and who speaks therefore. The last of `weights` is for the present."""

    names: Sequence[str]
    paths: Values  # (models, origins, leads)
    weights: Values  # (models, origins + 1, groups)
    mixture: Values  # (origins, leads)
    trials: Trials
    says: Sequence[str]  # of each group of leads: MIXTURE, or the name of the model that speaks instead

    @property
    def speaking(self) -> Values:
        """The paths of who speaks now, at the origins of the past."""
        return self.blend(self.mixture, self.paths)

    def blend(self, mixture: Values, paths: Values, split: Sequence[Group] = ()) -> Values:
        """The mixture, and instead of it what speaks for some groups of leads."""
        whole = mixture.copy()
        for says, group in zip(self.says, split or self.trials.split, strict=True):
            if says != MIXTURE:
                span = slice(group.begin, group.end)
                whole[:, span] = paths[self.names.index(says), :, span]
        return whole

    def cards(self) -> tuple[ReportCard, ...]:
        """Of who speaks, over the whole path and over the first hour; then of the two everybody knows, and the best."""
        seasonal = self._named(SEASONAL)
        naive = self._named(NAIVE)
        ours, speaks, trials = self.trials.error(self.mixture), self.speaking, self.trials
        others = {SEASONAL: trials.error(seasonal), NAIVE: trials.error(naive)}
        rival = SEASONAL if others[SEASONAL] is not None else NAIVE
        if ours is None or (least := others[rival]) is None:
            is_on, why = False, "too short to be judged: nothing came after any origin of its past"
        elif ours > least + ROUNDING:
            is_on, why = False, f"switched off: {ours:.1%} against {least:.1%} of {rival}, which speaks instead"
        else:
            is_on, why = True, self._why()
        title = MIXTURE if MIXTURE in self.says else self.says[-1]
        first = [
            msgspec.structs.replace(
                trials.card(title, speaks, seasonal=seasonal, naive=naive, why=why, last=last), on=is_on
            )
            for last in dict.fromkeys((int(trials.leads[-1]), min(int(trials.leads[-1]), trials.hour)))
        ]
        each = [(trials.error(self.paths[place]), name) for place, name in enumerate(self.names)]
        best = [name for _, name in sorted((error, name) for error, name in each if error is not None)]
        shown = dict.fromkeys((SEASONAL, NAIVE, *best[:MOST_OTHERS]))
        rest = [
            trials.card(name, self._named(name), seasonal=seasonal, naive=naive, why="")
            for name in shown
            if name != title and name in best
        ]
        return (*first, *rest)

    def _named(self, name: str) -> Values:
        return self.paths[self.names.index(name)] if name in self.names else np.full_like(self.mixture, np.nan)

    def _why(self) -> str:
        """Who has most to say at the longest leads, and who speaks instead of the mixture at others."""
        share = self.weights[:, -1, -1] / self.weights[:, -1, -1].sum()
        loud = np.argsort(-share, kind="stable")[:3]
        told = "mostly " + ", ".join(f"{self.names[place]} ({share[place]:.0%})" for place in loud)
        other = [
            f"{says} speaks up to {group.last} steps ahead"
            for says, group in zip(self.says, self.trials.split, strict=True)
            if says != MIXTURE
        ]
        return "; ".join([told, *other])


def _tried(past: Past, began: int, count: int, models: Mapping[str, Model]) -> _Backtest:
    """Every model on the past of the series, and who speaks for which leads."""
    leads = _leads(count, few=True)
    split, origins, stride = groups(leads), *_origins(past, began)
    everywhere = np.append(origins, len(past))
    told = _paths(past, everywhere, leads, models)
    names, paths = list(told), np.stack(list(told.values()))
    places = everywhere[:, None] + leads[None, :] - 1
    values = np.where(places < len(past), past.usable[np.minimum(places, len(past) - 1)], np.nan)
    weights = weigh(relative(paths, values), everywhere, split, past.step, stride * past.step)
    mixture = mixed(paths, weights, split)
    sizes = [group.end - group.begin for group in split]
    spans = np.diff([0, *(min(group.last, count) for group in split)])
    trials = Trials(
        leads=leads,
        split=split,
        values=values[:-1],
        heavy=np.repeat(spans / sizes, sizes),
        scale=SMALL * float(np.nanmean(past.usable)),
        step=past.step,
    )
    return _Backtest(names, paths[:, :-1], weights, mixture[:-1], trials, _speakers(names, paths, mixture, trials))


def _speakers(names: Sequence[str], paths: Values, mixture: Values, trials: Trials) -> Sequence[str]:
    """For each group of leads the mixture, unless one of the two everybody knows did clearly better there.

    A mixture that loses over the whole path, however little, does not speak at all.
    """
    rivals = [name for name in (SEASONAL, NAIVE) if name in names]

    def best(span: slice, clearly: float) -> str:
        ours = trials.error(mixture[:-1], span)
        errors = {name: trials.error(paths[names.index(name), :-1], span) for name in rivals}
        told = {name: error for name, error in errors.items() if error is not None}
        if ours is None or not told:
            return MIXTURE
        rival = min(told, key=told.__getitem__)
        return rival if told[rival] * clearly + ROUNDING < ours else MIXTURE

    whole = best(slice(None), 1.0)
    said = [best(slice(group.begin, group.end), CLEARLY) for group in trials.split]
    return said if whole == MIXTURE else [each if each != MIXTURE else whole for each in said]


def _paths(past: Past, origins: Indices, leads: Indices, models: Mapping[str, Model]) -> dict[str, Values]:
    told: dict[str, Values] = {}
    for name in sorted(models):
        told.update(models[name].paths(past, origins, leads))
    return told


def _origins(past: Past, began: int) -> tuple[Indices, int]:
    """Where the back-test stands, and the distance: up to MOST_ORIGINS, at least an hour apart, none in an outage."""
    earliest = max(1, began + 1, min(past.day or len(past), len(past) // 2), len(past) - round(BACK / past.step))
    stride = max(past.samples(CLOSEST), -(-(len(past) - earliest) // MOST_ORIGINS))
    places = np.arange(len(past) - stride, earliest - 1, -stride)[::-1]
    return places[np.isfinite(past.usable[places - 1]) | np.isnan(past.seen[places - 1])], stride


def _leads(count: int, *, few: bool = False) -> Indices:
    """All leads, or of each group a few, evenly."""
    leads = np.arange(1, count + 1)
    if not few:
        return leads
    places = [
        np.linspace(group.begin, group.end - 1, min(FEW, group.end - group.begin)).round() for group in groups(leads)
    ]
    return leads[np.concatenate(places).astype(np.int64)]
