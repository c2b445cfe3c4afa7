"""Forecasts for other desks: they say what they want, here it is made, judged, published and kept at hand.

    forecasts.want(("shop", "Deployment", "cart", "cpu"), DAY)      as often as you like; soon, and then hourly
    forecasts.of(("shop", "Deployment", "cart", "cpu"))             None: none yet, too old, or switched off

A tick makes at most `at_once` of those that are due, the longest waiting first: thousands of series share an hour. A
forecast that loses to "as yesterday", on its back-test or among those published, is still published, switched off and
with the reason, so that people see it; `of` does not return it.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np

from neap.common.contract.catalogue import FORECASTS
from neap.common.contract.channel import Address
from neap.common.errors import InputError
from neap.common.model.forecast import CLUSTER_SCOPE, MOST_POINTS, Forecast
from neap.common.runtime.machine import Count, Delete, Event, Instruction, Put
from neap.common.units import Seconds
from neap.foresight.forecasting import Foretold, forecast
from neap.foresight.judging import may_drive
from neap.planner.core.cluster import Cluster
from neap.planner.core.desk import SOURCE
from neap.planner.core.forecasting.gathering import SeriesName, series_of
from neap.planner.core.forecasting.scoring import Score
from neap.planner.core.forecasting.settings import Forecasting
from neap.planner.core.record import Record

MADE: Final = "neap_planner_forecasts_total"
LEFT_OUT: Final = "neap_planner_forecast_left_out_total"


@dataclass(slots=True)
class Wanted:
    """One series somebody asked for."""

    horizon: Seconds
    asked: Seconds
    address: Address[Forecast] | None  # None: its name is no subject, so it is of use here, but cannot be told
    made: Forecast | None = None
    score: Score = field(default_factory=Score)
    drives: bool = False
    seen: Seconds = 0.0  # end of the series it was made from


class Forecasts:
    """See module docstring. `settings`: asked at every tick, for policy may change them."""

    news: Final = ()

    def __init__(self, settings: Callable[[], Forecasting], cluster: Cluster, record: Record) -> None:
        self._settings, self._cluster, self._record = settings, cluster, record
        self._wanted: dict[SeriesName, Wanted] = {}
        self._due: list[tuple[Seconds, SeriesName]] = []
        self._at: Seconds = 0.0
        self._refused = 0

    # -- for other desks -----------------------------------------------------------------------------------------------

    def want(self, name: SeriesName, horizon: Seconds) -> None:
        """Ask for a series, `horizon` ahead; whoever asks for more ahead gets it for all."""
        found = self._wanted.get(name)
        if found is not None:
            found.asked, found.horizon = self._at, max(found.horizon, horizon)
        elif len(self._wanted) >= self._settings().most:
            self._refused += 1
        else:
            self._wanted[name] = Wanted(max(horizon, self._settings().least), self._at, _address(name))
            heapq.heappush(self._due, (self._at, name))
            if name[0] != CLUSTER_SCOPE:
                self._record.track("/".join(name[:3]))

    def of(self, name: SeriesName) -> Forecast | None:
        """The newest forecast that may drive decisions: see `may_drive`, and it did not fail live."""
        found = self._wanted.get(name)
        if found is None or found.made is None or not found.drives:
            return None
        return found.made if self._at - found.made.at <= self._settings().patience else None

    # -- a Desk --------------------------------------------------------------------------------------------------------

    def hear(self, event: Event) -> Sequence[Instruction]:
        """Nothing concerns it but the time."""
        self._at = max(self._at, event.at)
        return ()

    def plan(self, at: Seconds) -> Sequence[Instruction]:
        """Its tick: some of what is due."""
        self._at, settings = max(self._at, at), self._settings()
        said: list[Instruction] = []
        for _ in range(min(settings.at_once, len(self._due))):
            if self._due[0][0] > at:
                break
            _, name = heapq.heappop(self._due)
            wanted = self._wanted[name]
            if at - wanted.asked > settings.forget:
                del self._wanted[name]
                said += [Delete(wanted.address)] if wanted.made is not None and wanted.address is not None else []
                continue
            heapq.heappush(self._due, (at + settings.every, name))
            said += self._make(name, wanted, at, settings)
        if self._refused:
            said.append(Count(MADE, by=self._refused, labels={"outcome": "too many"}))
            self._refused = 0
        return said

    def validate(self) -> None:
        """Every wanted series is due some time, once."""
        assert sorted(self._wanted) == sorted(name for _, name in self._due), "wanted and due differ"

    def _make(self, name: SeriesName, wanted: Wanted, at: Seconds, settings: Forecasting) -> list[Instruction]:
        series = series_of(name, self._cluster, self._record)
        if series is None or not len(series):
            return [Count(MADE, labels={"outcome": "no history"})]
        if series.end <= wanted.seen:
            return []  # nothing came since
        wanted.seen = series.end
        wanted.score.compare(series, settings.trials)
        told = forecast(series, min(MOST_POINTS, max(1, round(wanted.horizon / series.step))))
        said: list[Instruction] = [Count(LEFT_OUT, by=len(told.said))] if told.said else []
        if not len(told.values):
            wanted.drives = False
            return [*said, Count(MADE, labels={"outcome": "no value"})]
        wanted.drives = bool(told.cards) and may_drive(told.cards[0]) and not wanted.score.is_off
        wanted.made = _message(name, told, wanted.score, at)
        wanted.score.publish(wanted.made)
        if wanted.address is None:
            return [*said, Count(MADE, labels={"outcome": "no subject"})]
        outcome = "on" if wanted.drives else "off"
        return [*said, Count(MADE, labels={"outcome": outcome}), Put(wanted.address, wanted.made)]


def _message(name: SeriesName, told: Foretold, score: Score, at: Seconds) -> Forecast:
    lines = [tuple(float(f"{value:.6g}") for value in line.tolist()) for line in (told.values, told.p90, told.p99)]
    mark = zlib.crc32(np.asarray(lines).tobytes())
    live = score.card()
    first = msgspec.structs.replace(told.cards[0], on=told.cards[0].on and not score.is_off)
    if score.is_off and live is not None:
        rival = live.naive_mape if live.seasonal_mape is None else live.seasonal_mape
        first = msgspec.structs.replace(
            first, why=f"switched off: what was published missed by {live.mape:.1%}, the simplest by {rival or 0:.1%}"
        )
    cards = (first, *((live,) if live is not None else ()), *told.cards[1:])
    namespace, kind, title, resource = name
    return Forecast(
        at=at, source=SOURCE, namespace=namespace, kind=kind, name=title, resource=resource,
        version=f"{told.start:.0f}-{mark:08x}", start=told.start, step=told.step,
        values=lines[0], p90=lines[1], p99=lines[2], cards=cards,
    )  # fmt: skip


def _address(name: SeriesName) -> Address[Forecast] | None:
    namespace, kind, title, resource = name
    try:
        return FORECASTS.at(namespace=namespace, kind=kind, name=title, resource=resource)
    except InputError:
        return None
