"""Laws of `neap assess`: nothing looks ahead, no scale is special, and no export makes it fall over."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neap.common.errors import InputError
from neap.console.core.export import Export
from neap.console.core.strategies import scaling, selling, sizes, tides
from neap.console.core.strategies.history import History, history_of
from neap.console.shell.assessing import STRATEGIES
from neap.foresight.peaks import ranges
from neap.foresight.sizes import snug
from tests.unit.past_days import START, history

ALL = {"days": 3.5, "nodes": 6, "services": 2, "replicas": 6, "noise": 0.1, "heights": 0.06}


def with_other_future(told: History, count: int, seed: int) -> History:
    """From step `count` on everything is different."""
    chance = np.random.default_rng(seed)
    lines = []
    for line in told.lines:
        used = line.used.copy()
        used[count - line.first :] *= chance.uniform(0, 4, len(used) - (count - line.first))
        lines.append(replace(line, used=used))
    return replace(told, lines=lines)


@given(count=st.integers(200, 1000), seed=st.integers(0, 9))
@settings(max_examples=5)
def test_another_future_moves_no_size_no_ratio_and_no_prediction_of_before(count: int, seed: int) -> None:
    told = history(**ALL)
    other = with_other_future(told, count, seed)
    for lines, others in zip(told.services.values(), [other.services[who] for who in told.services], strict=True):
        before, after = (sizes.sizes_of(some, one, snug.PLUGIN)[0] for some, one in ((lines, told), (others, other)))
        assert np.array_equal(before[: count + 1], after[: count + 1], equal_nan=True)
    peaks = []
    for one in (told, other):
        by_node = {name: [line for line in one.lines if line.node == name] for name in one.capacity}
        peaks.append([ranges.PLUGIN.peak(each.hosts) for each in selling.moments(one, by_node) if each.place <= count])
    assert np.array_equal(*peaks)


@given(count=st.integers(700, 1000), seed=st.integers(0, 9))
@settings(max_examples=1)
def test_another_future_turns_no_node_and_foretells_no_load_of_before(count: int, seed: int) -> None:
    told = history(**ALL)
    other = with_other_future(told, count, seed)
    courses = [tides.lived(one, tides.foretold(one), tides.SCALED).course for one in (told, other)]
    until = told.start + (count - count % 3) * told.step
    assert [m for m in courses[0] if m.at <= until] == [m for m in courses[1] if m.at <= until]
    outlooks = [scaling.foretold(one.used, 600)[0] for one in (told, other)]
    for at in range(0, int((count - 600) * told.step), 3600):
        assert outlooks[0](at, 120.0) == outlooks[1](at, 120.0)


@pytest.mark.parametrize("scale", [4.0])
def test_a_cluster_of_larger_cores_gets_the_same_shares(scale: float) -> None:
    one, other = history(**ALL), history(**ALL, scale=scale)
    for mine, theirs in ((selling.assess(one), selling.assess(other)), (tides.assess(one), tides.assess(other))):
        assert theirs.cores == pytest.approx(scale * (mine.cores or 0))
        assert theirs.short == pytest.approx(mine.short)
    mine, theirs = scaling.assess(one).figures, scaling.assess(other).figures
    assert theirs["replica_hours"] == pytest.approx(mine["replica_hours"], rel=0.01)
    mine, theirs = sizes.assess(one).figures, sizes.assess(other).figures
    assert theirs["saved_cores"] == pytest.approx(scale * mine["saved_cores"], rel=0.05)  # buckets are 5 % wide


values = st.one_of(st.none(), st.floats(0, 8), st.just(0.0))
steps = st.sampled_from([1.0, 60.0, 300.0, 700.0, 3600.0, 7200.0])


@st.composite
def exports(draw: st.DrawFn) -> Export:
    """Gaps, single samples, odd steps, years between; what reading an export lets through."""
    found = Export()
    for node in range(draw(st.integers(1, 4))):
        for pod in range(draw(st.integers(1, 3))):
            at, line = START - draw(st.sampled_from([0.0, 0.0, 86400.0, 3.2e8])), dict[float, float | None]()
            step = draw(steps)
            some = draw(st.lists(values, min_size=1, max_size=6))
            for place in range(draw(st.integers(1, 60))):
                line[at + place * step] = some[place % len(some)]
            name = draw(st.sampled_from(["all", f"shop/web-{pod}", f"DaemonSet/x-{pod}"]))
            if name != "all" and draw(st.booleans()):
                found.labels[name] = {"namespace": "shop", "pod": f"web-6b7f9d8c5-abcd{pod}"}
            found.used.setdefault(f"n{node}", {})[name] = line
            if draw(st.booleans()):
                found.requests.setdefault(f"n{node}", {})[name] = draw(st.floats(0, 20))
    return found


@given(told=exports())
@settings(max_examples=12)
def test_whatever_was_read_is_assessed_or_said_to_be_too_little(told: Export) -> None:
    try:
        found = history_of(told, 64)
    except InputError:
        return
    for name, assess in STRATEGIES.items():
        verdict = assess(found)
        assert verdict.name == name
        assert verdict.cores is None or math.isfinite(verdict.cores)
        assert all(math.isfinite(figure) for figure in verdict.figures.values()), verdict
        assert verdict.cores is not None or name == "forecast" or verdict.gain.startswith("not assessed: ")
