"""Forecasts: how good they would be on the largest series, by their own report cards (a day ahead).

A card is a back-test: every model tells paths from origins of the past, from what was known there, and is judged by what
came. Source: neap.foresight.forecasting.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from neap.common.model.forecast import ReportCard
from neap.common.units import DAY, HOUR
from neap.console.core.strategies.history import History
from neap.console.core.strategies.verdict import Table, Verdict, named, percent, unknown
from neap.foresight.forecasting import forecast

NAME, TITLE = "forecast", "forecasts"
NEEDS: Final = "nothing to turn on: what scales and lends ahead asks for them; two days of history, better a week"
MOST: Final = 12  # services, the largest
SHORTEST: Final = 2  # days
ALL: Final = "the whole cluster"


def assess(history: History, most: int = MOST) -> Verdict:
    """The verdict; it gains nothing by itself."""
    if history.span < SHORTEST * DAY:
        return unknown(NAME, TITLE, f"{history.span / HOUR:.0f} h of history; two days are needed", NEEDS)
    series = {ALL: history.used}
    series |= {named(whose): history.total(lines) for whose, lines in list(history.services.items())[:most]}
    cards = {name: told[0] for name, one in series.items() if (told := forecast(one, round(DAY / history.step)).cards)}
    judged = {name: card for name, card in cards.items() if card.origins}
    if not judged:
        return unknown(NAME, TITLE, "no series is long enough to be judged", NEEDS)
    return _verdict(judged, history)


def _verdict(cards: dict[str, ReportCard], history: History) -> Verdict:
    on = [card for card in cards.values() if card.on]
    error = median(card.mape for card in cards.values())
    seasonal = [card.seasonal_mape for card in cards.values() if card.seasonal_mape is not None]
    covers = [card.p90_cover for card in cards.values() if card.p90_cover is not None]
    notes = []
    if len(history.services) > len(cards):
        notes.append(f"the {len(cards)} largest series of {len(history.services) + 1}")
    if not on:
        notes.append('no pattern: on every series it does no better than "as yesterday" or "it stays", and is off')
    daily = f', "as yesterday" by {percent(median(seasonal))}' if seasonal else ""
    cover = f"; 9 of 10 below the band: {percent(median(covers))}" if covers else ""
    return Verdict(
        name=NAME,
        title=TITLE,
        gain=f"a day ahead wrong by {percent(error)}{daily}{cover}; on for {len(on)} of {len(cards)} series",
        needs=NEEDS,
        notes=tuple(notes),
        figures={"mape_median": error, "on": len(on), "series": len(cards)}
        | ({"seasonal_mape_median": median(seasonal)} if seasonal else {})
        | ({"p90_cover_median": median(covers)} if covers else {}),
        table=_table(cards),
    )


def _table(cards: dict[str, ReportCard]) -> Table:
    rows = [
        (name, "on" if card.on else "off", card.model, *_shares(card), f"{card.origins}")
        for name, card in cards.items()
    ]
    said = ("error: mean |foretold - came| / came a day ahead; p90, p99: share that came below the band",)
    titles = ("series", "state", "speaks", "error", "as yesterday", "it stays", "p90", "p99", "trials")
    return Table(titles=titles, rows=tuple(rows), said=said, of="series")


def _shares(card: ReportCard) -> Sequence[str]:
    told = (card.mape, card.seasonal_mape, card.naive_mape, card.p90_cover, card.p99_cover)
    return ["-" if one is None else percent(one) for one in told]
