"""Fragmentation: the authors' golden numbers, what a score prefers, and that nothing of it is in use unasked."""

from __future__ import annotations

import csv
from pathlib import Path
from random import Random

import msgspec
import numpy as np
import pytest

from neap.common.errors import SettingsError
from neap.common.model.placement import Placement
from neap.scheduler.core.columns import code
from neap.scheduler.core.framework import Parts
from neap.scheduler.core.pod import pod_of
from neap.scheduler.core.table import NodeTable
from neap.scheduler.plugins import fgd
from neap.scheduler.plugins.fgd import Ask, Mix, Room, Rule, Typical, descend, parse, typical_pods
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import policies
from tests.bench import openb
from tests.conftest import ROOT
from tests.unit.scheduler_world import a_guest, a_node, an_owner

HALF, PAIR = "60x2000:1x500", "40x8000:2x1000"


def golden(shared: Path) -> dict:
    return msgspec.json.decode((shared / "data" / "openb" / "golden_frag.json").read_bytes())


def a_mix(rows: list, *, total: int = 10_000) -> Mix:
    """Shares are percent with two digits, of 100 unless told."""
    return Mix(
        (Typical(round(100 * share), cpu, cards, core, tuple(filter(None, spec.split("|"))))
         for cpu, core, cards, spec, share in rows), total=total,
    )  # fmt: skip


def a_room(cpu: float, cards: list[float], model: str = "T4") -> Room:
    left = np.array([cards], dtype=np.float64)
    models = np.full(left.shape, code(model))
    return Room(np.array([cpu], dtype=np.float64), left, models, models > 0)


def fragments(mix: Mix, cpu: float, cards: list[float], model: str) -> float:
    room = a_room(cpu, cards, model)
    return float(mix.fragmentation(room.cpu, room.cards, room.models)[0])


def test_golden_fragmentation_of_nodes(shared: Path) -> None:
    numbers = golden(shared)
    lists = {"A": numbers["A"], "B": numbers["B"], "A[0]": numbers["A"][:1]}
    for case in numbers["cases"]:
        found = fragments(a_mix(lists[case["list"]]), case["cpu_left_milli"], case["gpu_left_milli"], case["model"])
        assert found == pytest.approx(case["expected_F"], abs=0.01), case
    assert len(numbers["cases"]) == 7


def test_golden_useless_cards_for_one_pod(shared: Path) -> None:
    for case in golden(shared)["pod_on_node"]:
        pod = Typical(1, case["pod"]["cpu_milli"], case["pod"]["num_gpu"], case["pod"]["gpu_milli"])
        found = fragments(Mix([pod]), case["cpu_left_milli"], case["gpu_left_milli"], case["model"])
        assert found == case["expected_useless_milli"], case


def test_fragmentation_by_hand(shared: Path) -> None:
    for case in golden(shared)["hand_cases"]:
        found = fragments(a_mix(case["typical"]), case["cpu_left_milli"], case["gpu_left_milli"], case["model"])
        assert found == case["expected_F"], case["why"]


@pytest.mark.parametrize("trace", openb.TRACES)
def test_as_many_shapes_are_typical_as_published(shared: Path, trace: str) -> None:
    counts = golden(shared)["typical_pod_counts"][trace]
    jobs = openb.read_jobs(trace)
    every, taken = openb.mix_of(trace, 1.0).typical, openb.mix_of(trace).typical
    assert (len(every), len(taken)) == (counts["groups"], counts["taken"])
    assert round(100 * sum(pod.pods for pod in taken) / len(jobs), 2) == counts["covered_pct"]


def test_the_whole_exam_for_one_seed_and_what_a_fresh_choice_among_equals_costs(shared: Path) -> None:
    wanted = openb.published()["default", "FGD", "allocation_pct"][130]
    first, any_of_them = (openb.replay("default", "FGD", 42, scatter=scatter) for scatter in (False, True))
    assert first.allocated[130] == pytest.approx(wanted, abs=0.5)
    assert first.fragmented[60] <= 8.2
    assert any_of_them.allocated[130] < first.allocated[130] - 3


def test_the_shipped_list_tells_the_parts_of_a_card_in_the_committed_slice_of_the_trace() -> None:
    with (ROOT / "examples" / "trace" / "openb_pods.csv").open() as lines:
        shapes = {(int(row["cpu_milli"]), int(row["num_gpu"]), int(row["gpu_milli"])) for row in csv.DictReader(lines)}
    known = {(pod.cpu, pod.cards, pod.core) for pod in parse(fgd.OPENB)}
    assert {(cpu, cards, milli if cards else 0) for cpu, cards, milli in shapes} <= known
    assert sum(pod.pods for pod in parse(fgd.OPENB)) == 8152


def test_a_slice_takes_the_card_that_whole_pods_cannot_use() -> None:
    mix = Mix(parse(f"{HALF} 40x2000:1x1000"))
    found = descend(mix, a_room(64_000, [1000, 500, 1000]), 2000, [Ask(1, 500)])
    assert found.cards.tolist() == [[1000, 0, 1000]]


def test_a_pod_that_eats_the_cpu_of_idle_cards_scores_below_one_that_does_not() -> None:
    mix, room = Mix(parse(f"{HALF} {PAIR}")), a_room(16_000, [1000, 1000])
    hungry, modest = (float(descend(mix, room, cpu, []).score[0]) for cpu in (15_000, 1_000))
    assert hungry < modest == 50.0


def test_whole_cards_are_the_first_untouched_ones_and_without_them_the_score_is_nothing() -> None:
    mix, room = Mix(parse(f"{HALF} {PAIR}")), a_room(64_000, [500, 1000, 1000, 1000])
    assert descend(mix, room, 8000, [Ask(2, 1000)]).cards.tolist() == [[500, 0, 0, 1000]]
    assert descend(mix, room, 8000, [Ask(4, 1000)]).score.tolist() == [0.0]
    assert descend(mix, room, 8000, [Ask(2, 1000), Ask(1, 500)]).cards.tolist() == [[0, 0, 0, 1000]]


def test_cards_closed_to_a_pod_are_not_given_to_it() -> None:
    room = a_room(64_000, [500, 1000])
    room.open[0, 0] = False
    assert descend(Mix(parse(HALF)), room, 2000, [Ask(1, 500)]).cards.tolist() == [[500, 500]]


def test_a_row_scores_alone_what_it_scores_among_others_and_nothing_given_is_changed() -> None:
    random, mix = np.random.default_rng(5), Mix(parse(f"{fgd.OPENB} 70x4000:1x300:A10|T4 9x1000:2x1000:G2"))
    models = np.array([code(name) for name in ("T4", "A10", "G2")])[random.integers(3, size=(200, 1))]
    cards = random.integers(0, 11, size=(200, 8)) * 100.0
    room = Room(random.integers(0, 64_000, 200) * 1.0, cards, np.tile(models, 8), cards >= 0)
    before = [column.copy() for column in room]
    for asks in ([], [Ask(1, 300)], [Ask(2, 1000)], [Ask(1, 200), Ask(1, 1000), Ask(1, 500)]):
        for rule in (Rule(), Rule(200, few_first=True)):
            whole = descend(mix, room, 3000, asks, rule)
            some = np.array(Random(1).sample(range(200), 40))
            part = descend(mix, room.of(some), 3000, asks, rule)
            assert np.array_equal(part.score, whole.score[some])
            assert np.array_equal(part.cards, whole.cards[some])
            assert whole.score.min() >= 0
            assert whole.score.max() <= 100
    assert all(np.array_equal(now, then) for now, then in zip(room, before, strict=True))


def test_few_first_decides_between_equals_only() -> None:
    mix = Mix(parse("1x1000"))  # no card is of use to anybody: every node is like every other
    room = Room(
        np.full(2, 9000.0), np.array([[1000.0, 0], [1000, 1000]]), np.array([[1, 0], [1, 1]]), np.ones((2, 2), bool)
    )
    narrow, wide = descend(mix, room, 1000, [Ask(1, 500)], Rule(200, few_first=True)).score
    assert 0 < narrow - wide < 100 / 200
    narrow, wide = descend(mix, room, 1000, [Ask(1, 500)], Rule(200)).score
    assert narrow == wide


def test_the_plugin_reads_the_columns_in_percent_and_leaves_guests_alone() -> None:
    table = NodeTable()
    for name in ("touched", "idle"):
        table.describe(a_node(name, cores=64, cards=2))
    seed = pod_of(an_owner("u0", cores=2, gpu=(50, 4000)))
    share = fgd.PLUGIN.reserve  # cards are given by gpu_share: this plugin only scores
    assert share is None
    gpus = policies(Settings())[2].plugin.reserve(seed, table, 0, policies(Settings())[2].settings, Parts()).gpus
    table.charge("touched", Placement(workload=seed.workload, charged=seed.requests, gpus=gpus), 0.0)
    settings = fgd.Settings(typical="50x2000:1x500 50x2000:1x1000")
    touched, idle = fgd.least_stranding(pod_of(an_owner("u1", cores=2, gpu=(50, 4000))), table.view(), settings)
    assert touched > idle
    assert fgd.least_stranding(pod_of(a_guest("g1")), table.view(), settings) is None


@pytest.mark.parametrize(
    "text", ["", "5", "5x", "0x1000", "3x-1", "3x10:1x0", "3x10:2x500", "3x10:1x1001", "nanx1:1x10"]
)
def test_a_list_of_typical_pods_that_makes_no_sense_stops_the_start_and_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="fgd.*typical"):
        policies(Settings(order=("fit", "fgd"), tune={"fgd.typical": text}))


def test_typical_pods_are_the_most_frequent_ones() -> None:
    pods = [Typical(1, 1, 1, 500, ("a", "b"))] * 8 + [Typical(1, 2, 1, 500)] + [Typical(1, 3)]
    assert typical_pods(pods, 0.8) == (Typical(8, 1, 1, 500, ("a", "b")),)
    assert len(typical_pods(pods, 1.0)) == 3


def test_nobody_scores_by_fragmentation_unless_told() -> None:
    assert "fgd" not in [policy.name for policy in policies(Settings())]
    order = ("node_selector", "fit", "gpu_share", "fgd")
    assert policies(Settings(order=order, tune={"fgd.steps": 100}))[-1].settings.steps == 100
