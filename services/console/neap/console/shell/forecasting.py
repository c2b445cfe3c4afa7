"""`neap forecast`: read what the planner expects, or expect it here from somebody's file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from neap.common.contract.catalogue import FORECASTS
from neap.common.errors import InputError
from neap.common.model.forecast import CLUSTER, CLUSTER_SCOPE, MOST_POINTS, Forecast
from neap.common.units import DAY, Seconds, format_duration
from neap.console.core.forecast_figure import draw
from neap.console.core.foretold import as_message, read_column, tell
from neap.console.shell.reading import open_bus
from neap.foresight.forecasting import forecast
from neap.foresight.series import Series

MOST_BYTES: Final = 256 << 20
SHOWN: Final[Seconds] = 4 * DAY  # of what was used, in the picture


async def show_forecast(what: str, resource: str, url: str, *, figure: Path | None, in_json: bool) -> str:
    """What the planner expects of a service, a node, a pool or the cluster.

    Raises:
        InputError: nobody asked for such a forecast.
        PortError: no bus.
    """
    namespace, kind, name = named(what)
    key = FORECASTS.at(namespace=namespace, kind=kind, name=name, resource=resource)
    async with open_bus(url) as bus:
        found = await bus.get(key)
    if found is None:
        raise InputError(f"{what} {resource}: the planner has no forecast of it (it makes those that its plans need)")
    return _shown(found.message, [found.message], None, (), f"{what}, {resource}", figure, in_json=in_json)


def forecast_file(path: Path, resource: str, ahead: Seconds, *, figure: Path | None, in_json: bool) -> str:
    """What is to be expected after the end of a file, by the same code as the planner's.

    Raises:
        InputError: the file cannot be read, or has no such column.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"{path}: larger than {MOST_BYTES >> 20} MiB")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    series, odd = read_column(text, resource, str(path))
    count = min(MOST_POINTS, max(1, round(ahead / series.step)))
    told = forecast(series, count)
    if not len(told.values):
        raise InputError(f"{path}, {resource}: {'; '.join((*odd, *told.said))}")
    now, before = as_message(told, path.name, resource), len(series) - count
    drawn = [now]
    if (
        figure is not None
        and before * series.step >= DAY
        and len((old := forecast(series.until(before), count)).values)
    ):
        drawn.insert(0, as_message(old, path.name, resource))
    shown = series.last(max(2 * count, round(SHOWN / series.step)))
    title = f"{path.name}, {resource}: {format_duration(count * series.step)} ahead"
    return _shown(now, drawn, shown, (*odd, *told.said), title, figure, in_json=in_json)


def named(what: str) -> tuple[str, str, str]:
    """NAMESPACE/KIND/NAME, node/NAME, pool/NAME or cluster.

    Raises:
        InputError: none of these.
    """
    match what.split("/"):
        case [namespace, kind, name] if namespace and kind and name:
            return namespace, kind, name
        case ["node", name] if name:
            return CLUSTER_SCOPE, "Node", name
        case ["pool", name] if name:
            return CLUSTER_SCOPE, "NodePool", name
        case ["cluster"]:
            return CLUSTER_SCOPE, *CLUSTER
    raise InputError(f"{what!r}: write NAMESPACE/KIND/NAME, node/NAME, pool/NAME, cluster, or a file FILE.csv")


def _shown(
    now: Forecast, drawn: list[Forecast], used: Series | None, said: tuple[str, ...], title: str, figure: Path | None,
    *, in_json: bool,
) -> str:  # fmt: skip
    if figure is not None:
        figure.write_text(draw(drawn, used, title=title), encoding="utf-8")
    if in_json:
        return msgspec.json.format(msgspec.json.encode(now), indent=2).decode()
    return "\n".join(tell(now, said))
