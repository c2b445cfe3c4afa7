"""`neap assess`: what every strategy is said to have given on a history that is known, and what is said of too little."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest

from neap.common.errors import InputError
from neap.console.core.export import Export, read_file
from neap.console.core.strategies import foretelling, scaling, selling, sizes, tides
from neap.console.core.strategies.history import HELD, history_of
from neap.console.core.strategies.lending import Ask
from neap.console.core.strategies.page import page, summary
from neap.console.core.strategies.verdict import Verdict, level_of, ordered, percent
from neap.console.shell.assessing import NAMES, STRATEGIES, assess_folder
from neap.foresight.peaking import AHEAD, foreseen, moments
from neap.foresight.peaks import ranges
from neap.foresight.replay import replay
from neap.foresight.series import Series
from neap.foresight.sizes import snug
from neap.planner.core.overcommitting.settings import Overcommit
from neap.planner.core.scaling.settings import Scaling
from neap.planner.core.sizing.settings import SizingSettings
from tests.unit.past_days import FIVE, START, export, history, wave

# -- the history -----------------------------------------------------------------------------------------------------------


def read(*lines: str) -> Export:
    found = Export()
    read_file("u.csv", "\n".join(["timestamp,node,workload,cpu,request,capacity", *lines]), found)
    return found


def test_a_missing_sample_is_unknown_and_only_the_past_stands_in_for_it() -> None:
    rows = [f"{START + FIVE * i},a,shop/cart,{i + 1},8,32" for i in range(12) if i not in (3, 4, 5, 6, 7)]
    (line,) = history_of(read(*rows), 0).lines
    assert np.isnan(line.used[3:8]).all()
    assert line.held[3 : 3 + HELD].tolist() == [3.0] * HELD
    assert np.isnan(line.held[3 + HELD : 8]).all()


def test_who_comes_later_adds_nothing_before_and_ten_years_make_no_list_of_ten_years() -> None:
    old = [f"{START - 3650 * 86400 + FIVE * i},a,shop/old,1,8,32" for i in range(3)]
    rows = [f"{START + FIVE * i},a,shop/cart,1,8,32" for i in range(12)]
    late = [f"{START + FIVE * i},a,shop/late,2,8,32" for i in range(6, 12)]
    found = history_of(read(*old, *rows, *late), 0)
    assert found.used.values[-12:].tolist() == [1.0] * 6 + [3.0] * 6
    assert found.span <= 28 * 86400 + 3600
    assert any("newest 28 of 3650 days" in note for note in found.notes)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["0,a,w,1,1,", "300,a,w,1,1,"], "node a: its CPUs are not told"),
        (["0,a,w,90,1,8", "300,a,w,90,1,8"], "node a: uses 90.0 cores of 8"),
        (["0,a,w,1,1,8"], "no two samples"),
        (["0,a,w,NaN,1,8", "300,a,w,,1,8"], "no value of any series"),
    ],
)
def test_an_export_that_says_nothing_is_refused_by_name(rows: list[str], told: str) -> None:
    with pytest.raises(InputError, match=told):
        history_of(read(*rows), 0)


# -- one strategy after the other ------------------------------------------------------------------------------------------


def test_sizes_of_one_replica_are_those_of_the_recommendation_replay() -> None:
    found = history(services=1, replicas=1, nodes=1, noise=0.1)
    (line,) = found.lines
    size, changes, _ = sizes.sizes_of([line], found, snug.PLUGIN)
    known = replay(snug.PLUGIN, Series(found.start, found.step, line.used))
    assert np.allclose(size, known.size, atol=0.0011, equal_nan=True)  # requests are whole milli-cores, rounded up
    judged = int(np.isfinite(size).sum()) * found.step / 86400
    assert changes / judged == pytest.approx(known.changes_per_day)


def test_too_large_requests_are_told_with_what_is_saved_and_too_small_ones_with_what_lacks() -> None:
    told = sizes.assess(history(services=2, shape=lambda _: 0.25, noise=0.0))
    # 8 replicas of 4 cores that use one each: asked 32; recommended about 1.0 to 1.15
    assert told.cores == pytest.approx(32 - 8 * 1.1, abs=0.5)
    assert told.level == "none"
    assert not told.but
    small = sizes.assess(history(services=2, shape=lambda _: 1.25, noise=0.0, cores=64))
    assert small.cores is not None
    assert small.cores < 0
    assert any("ask for too little" in note for note in small.notes)


def test_what_is_foreseen_of_nodes_is_what_the_peak_replay_foresees() -> None:
    found = history(days=1, services=2, noise=0.2)
    by_node = {name: [line for line in found.lines if line.node == name] for name in found.capacity}
    samples = np.stack([np.stack([line.used for line in lines]) for lines in by_node.values()])
    known = list(moments(samples, np.full(samples.shape[:2], math.inf)))
    told = list(selling.moments(found, by_node))
    assert [moment.place for moment in told][:3] == [24, 27, 30]
    for moment in told[:: selling.EVERY]:
        if moment.place + AHEAD <= found.count:
            hosts, _ = known[moment.place - 24]
            assert np.allclose(foreseen(ranges.PLUGIN, moment.hosts), foreseen(ranges.PLUGIN, hosts))
            assert moment.asked.tolist() == [8.0] * 4


def test_idle_nodes_that_are_sold_out_could_sell_more_and_busy_ones_nothing() -> None:
    idle = selling.assess(history(services=4, shape=lambda _: 0.2))  # 16 of 16 cores asked, 3.2 used
    assert idle.cores is not None
    assert idle.cores > 0.3 * 64
    assert (idle.level, idle.but) == ("none", "")
    busy = selling.assess(history(services=4, shape=lambda _: 0.9))
    assert busy.cores == 0
    unsold = selling.assess(history(services=1, shape=lambda _: 0.2))
    assert "not even asked for" in unsold.but


def test_scaling_stands_beside_the_record_and_the_autoscaler() -> None:
    told = scaling.assess(history(days=3, services=1, replicas=8, cores=64, noise=0.05))
    figures = told.figures
    assert figures["replica_hours_recorded"] == pytest.approx(8 * 72)
    assert figures["replica_hours"] < 0.8 * figures["replica_hours_recorded"]
    assert figures["replica_hours"] <= 1.05 * figures["replica_hours_autoscaler"]
    assert figures["start_seconds"] == 60
    assert any("60 s" in note for note in told.notes)


def test_a_tide_lends_nodes_by_night_and_has_them_back_by_day() -> None:
    found = history(days=6, nodes=20, services=10, replicas=16, cores=48, noise=0.1, heights=0.06)
    told = tides.foretold(found)
    assert told.fit
    scaled = tides.lived(found, told, tides.SCALED)
    assert scaled.lent > 0.05 * scaled.hours
    assert scaled.late == 0
    assert scaled.flips <= 2
    first = [moment for moment in scaled.course if moment.at <= START + 2 * 86400]
    assert all(moment.offline == 0 for moment in first)  # no forecast yet


def test_on_a_load_that_repeats_as_yesterday_is_enough_to_lend() -> None:
    told = tides.foretold(history(days=4, nodes=6, services=2, replicas=6))
    assert sum(not one.is_on for one in told.fit.values()) > 0, "every model loses to as yesterday somewhere"
    assert 2 * len(told.fit) > told.made


def test_forecasts_are_judged_by_their_cards() -> None:
    told = foretelling.assess(history(days=5))
    assert told.figures["series"] == 4  # three services and all of them
    assert told.figures["mape_median"] < 0.1
    assert told.cores is None


@pytest.mark.parametrize("name", STRATEGIES)
def test_too_short_a_history_is_said_in_a_sentence(name: str) -> None:
    told = STRATEGIES[name](history(days=1 / 12))
    assert told.cores is None
    assert told.gain.startswith("not assessed: ")
    assert "of history" in told.gain


@pytest.mark.parametrize("name", ["sizes", "scaling"])
def test_an_export_without_workloads_says_so(name: str) -> None:
    rows = [f"{START + FIVE * i},a,1,16" for i in range(400)]
    found = Export()
    read_file("u.csv", "\n".join(["timestamp,node,cpu,capacity", *rows]), found)
    assert "names no workloads" in STRATEGIES[name](history_of(found, 0)).gain


@pytest.mark.parametrize("name", ["overcommit", "scaling"])
def test_samples_too_far_apart_are_named(name: str) -> None:
    rows = [f"{START + 1800 * i},a,shop/cart,1,8,32" for i in range(400)]
    assert "every 30 min" in STRATEGIES[name](history_of(read(*rows), 0)).gain


def test_what_rests_on_assumed_requests_says_so() -> None:
    found = history(days=3, is_told=False)
    assert "requests are assumed" in (sizes.assess(found).but, selling.assess(found).but)
    assert any("assumed" in note for note in sizes.assess(found).notes)


# -- the page --------------------------------------------------------------------------------------------------------------


def verdict(name: str, cores: float | None, level: str = "none", but: str = "") -> Verdict:
    return Verdict(name=name, title=name, gain="g", cores=cores, level=level, but=but)


def test_first_comes_what_gains_most_at_little_risk_and_last_what_cannot_be_said() -> None:
    each = [
        verdict("unknown", None), verdict("small", 1), verdict("risky", 90, "much"), verdict("doubtful", 80, but="x"),
        verdict("safe", 20), verdict("little", 30, "little"),
    ]  # fmt: skip
    order = [one.name for one in ordered(each, 200)]
    assert order == ["little", "safe", "doubtful", "risky", "small", "unknown"]


@pytest.mark.parametrize(
    ("ratio", "said", "level"),
    [(0, "0", "none"), (0.0004, "0.04 %", "none"), (0.004, "0.40 %", "little"), (0.013, "1.3 %", "some"), (0.2, "20 %", "much")],
)  # fmt: skip
def test_shares_are_said_as_people_read_them(ratio: float, said: str, level: str) -> None:
    assert (percent(ratio), level_of(ratio)) == (said, level)


def test_the_page_fits_on_a_screen_before_the_tables_and_names_what_was_not_assessed() -> None:
    found = history(days=3, services=4)
    verdicts = [assess(found) for assess in STRATEGIES.values()]
    lines = list(summary(verdicts, found.cores))
    assert len(lines) <= 45
    assert any("GPU share: not assessed: no GPU use in the export" in line for line in lines)
    told = page(verdicts, found, is_whole=False)
    assert "4 nodes of 64 cores together, 4 services, 3.0 days to 2025-10-13 00:00 UTC" in told
    assert "requests are told of 16 of 16 series" in told
    assert all(f"== {name}: " in told for name in STRATEGIES if name != "tide")


def test_a_folder_of_csv_is_assessed_whole_and_as_json(tmp_path: Path) -> None:
    with (tmp_path / "u.csv").open("w") as file:
        rows = csv.writer(file)
        rows.writerow(["timestamp", "node", "workload", "cpu", "request", "capacity"])
        for step in range(300):
            for node in ("a", "b", "c"):
                rows.writerow([START + FIVE * step, node, "shop/cart", round(8 * wave(step), 3), 8, 16])
    ask = Ask(nodes=1, days=0.05)
    told = json.loads(assess_folder(tmp_path, ask=ask, policies=["neap"], strategies=(), in_json=True))
    assert set(told["strategies"]) == set(NAMES)
    assert told["nodes"] == 3
    assert told["strategies"]["sizes"]["figures"]["asked_cores"] == pytest.approx(24)
    assert told["strategies"]["tide"]["gain"].startswith("not assessed")
    text = assess_folder(tmp_path, ask=ask, policies=["neap"], strategies=["sizes"], in_json=False)
    assert "shop/cart" in text
    assert "== overcommit" not in text


def test_export_is_a_value_that_is_not_changed() -> None:
    told = export(days=1)
    before = json.dumps(told.used)
    history_of(told, 0)
    assert json.dumps(told.used) == before


def test_what_is_assumed_of_the_planner_is_what_it_does_where_nobody_set_anything() -> None:
    sold, sized, scaled = Overcommit(), SizingSettings(), Scaling()
    assert (sold.cpu_target, sold.cpu_load) == (selling.TARGET, selling.LOAD)
    assert sized.cpu_min / 1000 == sizes.LEAST
    assert (scaled.target, scaled.full) == (scaling.TARGET, scaling.FULL)
