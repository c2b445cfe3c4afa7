"""A forecast told to people: what is expected, by whom, and how good that was; and a column of a CSV file as a series."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Final

from neap.common.errors import InputError
from neap.common.model.forecast import Forecast, ReportCard
from neap.common.units import DAY, HOUR, MINUTE, Seconds, format_duration
from neap.foresight.cleaning import onto_grid
from neap.foresight.forecasting import Foretold
from neap.foresight.series import Series

TIMES: Final = ("timestamp", "time", "at", "ds")  # names of the column of times
VALUES: Final = ("value", "y")  # of that of values, where none has the resource's name
MOST_ROWS: Final = 2_000_000
STEP: Final[Seconds] = 5 * MINUTE  # of a file without times
SHOWN: Final = 12  # lines of what is expected
GIB: Final = 1 << 30


def read_column(text: str, resource: str, where: str) -> tuple[Series, tuple[str, ...]]:
    """A column of a CSV file with a header, by time (seconds or ISO 8601, UTC if no zone is named), and what was odd.

    Without a column of times the rows are consecutive, five minutes apart. Several rows of one time are added up if the
    file has a column `node` or `workload`, else their mean is taken.

    Raises:
        InputError: names the file, the line, and what is wrong.
    """
    rows = csv.DictReader(io.StringIO(text))
    names = list(rows.fieldnames or ())
    column = next((name for name in (resource, *VALUES) if name in names), None)
    if column is None:
        raise InputError(f"{where}: no column {resource!r} or {VALUES[0]!r} (there are: {', '.join(names) or 'none'})")
    times = next((name for name in TIMES if name in names), None)
    adds = bool({"node", "workload", "pod"} & set(names))
    found: list[tuple[Seconds, float]] = []
    for number, row in enumerate(rows, start=2):
        if number > MOST_ROWS:
            raise InputError(f"{where}: more than {MOST_ROWS:,} lines")
        at = _time(row[times], f"{where}, line {number}") if times else (number - 2) * STEP
        found.append((at, _number(row[column], f"{where}, line {number}, {column}")))
    if adds:
        found = _added(found)
    distinct = sorted({at for at, _ in found})
    apart = [after - before for before, after in pairwise(distinct)]
    step = median(apart) if apart else STEP
    series, said = onto_grid([at for at, _ in found], [value for _, value in found], step)
    return series, said


def as_message(told: Foretold, name: str, resource: str) -> Forecast:
    """The same as the planner would say it."""
    lines = [tuple(line.tolist()) for line in (told.values, told.p90, told.p99)]
    return Forecast(
        at=told.start, source="console", namespace="-", kind="File", name=name, resource=resource, version="offline",
        start=told.start, step=told.step, values=lines[0], p90=lines[1], p99=lines[2], cards=told.cards,
    )  # fmt: skip


def tell(forecast: Forecast, said: Sequence[str] = ()) -> list[str]:
    """The forecast in lines: what, by whom, how good, and the next hours."""
    title = "/".join(part for part in (forecast.namespace, forecast.kind, forecast.name) if part not in {"", "-"})
    ahead = format_duration(len(forecast.values) * forecast.step)
    lines = [f"{title}  {forecast.resource}  {ahead} from {moment(forecast.start)}  (version {forecast.version})"]
    lines += [f"! {line}" for line in said]
    if forecast.cards:
        first = forecast.cards[0]
        state = "drives decisions" if first.on else "OFF, drives nothing"
        lines += [f"{first.model}: {state}; {first.why}", "", *_cards(forecast.cards)]
    return [*lines, "", *_path(forecast)]


def moment(at: Seconds) -> str:
    """A time as people write it; small numbers are times of a file without a calendar."""
    if at < 1000 * DAY:
        return f"day {int(at // DAY) + 1} {int(at % DAY // HOUR):02d}:{int(at % HOUR // MINUTE):02d}"
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def amount(value: float, resource: str) -> str:
    """A value with the unit of its resource."""
    if resource == "memory" and value >= GIB / 10:
        return f"{value / GIB:,.2f} GiB"
    return f"{value:,.4g}"


def _cards(cards: Sequence[ReportCard]) -> list[str]:
    lines = [
        f"{'how it did on the past of this series':<44}{'ahead':>6}{'origins':>8}{'error':>8}{'yesterday':>10}{'it stays':>9}{'p90':>6}{'p99':>6}{'above p99':>12}"
    ]
    for card in cards:
        ahead = format_duration(card.horizon) if card.horizon else "all"
        lines.append(
            f"{card.model[:43]:<44}{ahead:>6}{card.origins:>8}{card.mape:>8.1%}{_share(card.seasonal_mape):>10}"
            f"{_share(card.naive_mape):>9}{_share(card.p90_cover, 0):>6}{_share(card.p99_cover, 0):>6}"
            f"{card.under_minutes:>8.0f} m/d"
        )
    return lines


def _share(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:.{digits}%}"


def _path(forecast: Forecast) -> list[str]:
    """Means of some hours each, and the highest of the bands there."""
    size = max(1, math.ceil(len(forecast.values) / SHOWN))
    lines = [f"{'from':<18}{'expected':>14}{'90 % below':>14}{'99 % below':>14}"]
    for begin in range(0, len(forecast.values), size):
        span = slice(begin, begin + size)
        part = forecast.values[span]
        bands = [max(line[span]) if line else math.nan for line in (forecast.p90, forecast.p99)]
        told = [amount(value, forecast.resource) for value in (sum(part) / len(part), *bands)]
        lines.append(f"{moment(forecast.start + begin * forecast.step):<18}" + "".join(f"{text:>14}" for text in told))
    return lines


def _time(text: str | None, where: str) -> Seconds:
    try:
        return float(text or "")
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat((text or "").strip())
    except ValueError:
        raise InputError(f"{where}: {str(text)[:40]!r} is no time (seconds, or ISO 8601)") from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _number(text: str | None, where: str) -> float:
    if text is None or text.strip().lower() in {"", "nan", "null", "none"}:
        return math.nan
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{where}: {text[:40]!r} is no number") from None


def _added(found: Sequence[tuple[Seconds, float]]) -> list[tuple[Seconds, float]]:
    totals: dict[Seconds, float] = {}
    for at, value in found:
        totals[at] = totals.get(at, 0.0) + value
    return list(totals.items())
