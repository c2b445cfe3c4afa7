"""`neap tide status`: what people, programs and a picture are told of a pool."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from neap.common.errors import InputError
from neap.common.model.tide import LAPSE, Side, TideMoment, TideNode, TidePool, Turning
from neap.common.units import DAY, HOUR, MINUTE
from neap.console.core import tidefigure, tideview
from neap.console.core.tideclock import at_clock, when
from neap.console.shell.tide import write_figure

NOW = 20_000 * DAY + 5 * HOUR


def a_pool(**more: object) -> TidePool:
    nodes = (
        TideNode(node="n1", side=Side.ONLINE, reserve=True),
        TideNode(node="n2", side=Side.ONLINE, turning=Turning.BLOCKED, since=NOW - 20 * MINUTE, flips=(NOW - 8 * HOUR, NOW - HOUR),
                 why="1 guests did not leave within 15m", blockers=("batch/train-3",)),
        TideNode(node="n3", side=Side.OFFLINE, since=NOW - 7 * HOUR, flips=(NOW - 7.2 * HOUR,), why="empty after 12m"),
        TideNode(node="n4", side=Side.ONLINE, turning=Turning.DRAINING, since=NOW - 60, flips=(NOW - 60,), why="online services need it"),
    )  # fmt: skip
    course = tuple(TideMoment(NOW - hour * HOUR, 4 - hour % 3, hour % 3, 0, 0, 2) for hour in range(24, 0, -1))
    fields = {
        "at": NOW, "source": "planner", "pool": "web", "nodes": nodes, "wanted_online": 3, "until": NOW + 2 * HOUR,
        "next_change": NOW + 1.5 * HOUR, "ready_by": NOW + 2.5 * HOUR, "returning": 1, "arithmetic": "3 of 4 nodes online", "forecast": "f7",
        "alerts": ("n2 does not come back: 1 guests did not leave within 15m: batch/train-3",), "course": course,
        "ahead": (2, 2, 3, 3, 4), "ahead_from": NOW,
    }  # fmt: skip
    return TidePool(**{**fields, **more})  # type: ignore[arg-type]


def test_the_next_return_who_moves_and_who_is_at_risk_are_said() -> None:
    said = tideview.text([a_pool()], NOW)
    assert "pool web: 1 of 4 nodes online (1 reserved), 1 offline (0 reserved), 1 turning, 1 blocked" in said
    assert "next     return 07:30: 1 nodes, on their way from 06:30" in said
    assert "  at risk\n    n2  batch/train-3: 1 guests did not leave within 15m" in said
    assert "n3    online     offline  steady    yesterday 22:00  empty after 12m" in said
    assert "alerts\n    n2 does not come back" in said
    assert "STALE" not in said
    assert "STALE    said 1h ago" in tideview.text([a_pool()], NOW + LAPSE)


def test_nothing_foreseen_and_no_pool_are_said_too() -> None:
    assert "no change is foreseen" in tideview.text([a_pool(ready_by=0.0, next_change=0.0)], NOW)
    assert "more can be lent 06:30" in tideview.text([a_pool(ready_by=0.0)], NOW)
    assert "none: what was lent comes back" in tideview.text([a_pool(forecast="")], NOW)
    assert tideview.text([], NOW).startswith("no pool has a tide")


def test_programs_get_counts_and_the_message() -> None:
    (told,) = json.loads(json.dumps(tideview.as_json([a_pool()], NOW)))
    assert told["counts"] == {
        "nodes": 4,
        "online": 1,
        "online_reserve": 1,
        "offline": 1,
        "offline_reserve": 0,
        "turning": 1,
        "blocked": 1,
    }
    assert told["at_risk"][0]["pods"] == ["batch/train-3"]
    assert told["ready_by"] == NOW + 2.5 * HOUR


def test_times_are_those_of_the_pools_zone() -> None:
    assert at_clock(NOW, "+05:30") == "10:30"
    assert when(NOW + 20 * HOUR, NOW, "+00:00") == "tomorrow 01:00"
    assert when(NOW - 6 * HOUR, NOW, "-08:00") == "15:00"
    assert when(NOW + 3 * DAY, NOW, "+00:00") == "in 3 days, 05:00"


@pytest.mark.parametrize(
    "more", [{}, {"course": ()}, {"ahead": (), "ready_by": 0.0}, {"course": (), "ahead": (), "nodes": ()}]
)
def test_the_figure_is_an_svg_whatever_is_known(more: dict[str, object]) -> None:
    pool = a_pool(**more)
    root = ET.fromstring(tidefigure.draw(tideview.timeline(pool, NOW)))
    words = [element.text or "" for element in root.iter() if element.tag.endswith("text")]
    assert words[0].startswith("Pool web")
    assert ("back by 07:30" in words) == (not more or more == {"course": ()})


def test_a_figure_is_of_one_pool(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name it"):
        write_figure([a_pool(), a_pool()], NOW, tmp_path / "out.svg")
    with pytest.raises(InputError, match="cannot be written"):
        write_figure([a_pool()], NOW, tmp_path / "none" / "out.svg")
    write_figure([a_pool()], NOW, tmp_path / "out.svg")
    assert (tmp_path / "out.svg").read_text().startswith("<svg")


def test_pools_are_read_from_the_bus() -> None:
    from neap.common.bus.memory import MemoryBroker
    from neap.common.contract.catalogue import TIDES
    from neap.console.shell.reading import stored

    async def work() -> list[str]:
        bus = MemoryBroker().bus("console")
        await bus.ensure((), (TIDES,))
        await bus.put(TIDES.at(pool="web"), a_pool())
        await bus.put(TIDES.at(pool="api"), a_pool(pool="api"))
        return [one.pool for one in await stored(bus, TIDES.only())]

    assert asyncio.run(work()) == ["api", "web"]
