"""Fragmentation: the authors' golden numbers, what a score prefers, and that the scheduler places as the exam's simulation."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec
import numpy as np
import pytest

from neap.common.errors import SettingsError
from neap.common.model.placement import Placement
from neap.common.model.resource import GPU_CORE, GPU_MEMORY
from neap.common.model.workload import Container
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.fragments import UNBOUNDED, Mix, Room
from neap.scheduler.core.choice.framework import Parts, Policy
from neap.scheduler.core.nodes.columns import code
from neap.scheduler.core.nodes.table import ORDER, NodeTable
from neap.scheduler.core.pods.pod import pod_of
from neap.scheduler.core.pods.typical import Typical, parse, typical_pods
from neap.scheduler.plugins import fgd, fit, gpu_share
from neap.scheduler.plugins.fgd import PUBLISHED, Ask, Rule, descend
from neap.scheduler.settings import Settings
from neap.scheduler.wiring import policies
from tests.bench import openb
from tests.bench.openb_rivals import Cluster, Replay, simulated
from tests.bench.openb_rivals import fgd as simulated_fgd
from tests.bench.openb_trace import TRACES, arrivals, mix_of, published, read_jobs, read_nodes
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


def a_room(cpu: float, cards: list[int], model: str = "T4") -> Room:
    left = np.array([cards])
    models, memory = np.full(left.shape, code(model)), np.full(left.shape, UNBOUNDED)
    return Room(np.array([float(cpu)]), left, memory, models, models > 0)


def fragments(mix: Mix, cpu: float, cards: list[int], model: str) -> float:
    return float(mix.fragmentation(a_room(cpu, cards, model))[0])


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
        if pod.cards > 1 and pod.core < 1000:
            with pytest.raises(ValueError, match="parts of several cards"):  # there are no such pods here
                Mix([pod])
        else:
            found = fragments(Mix([pod]), case["cpu_left_milli"], case["gpu_left_milli"], case["model"])
            assert found == case["expected_useless_milli"], case


def test_fragmentation_by_hand(shared: Path) -> None:
    for case in golden(shared)["hand_cases"]:
        found = fragments(a_mix(case["typical"]), case["cpu_left_milli"], case["gpu_left_milli"], case["model"])
        assert found == case["expected_F"], case["why"]


@pytest.mark.parametrize("trace", TRACES)
def test_as_many_shapes_are_typical_as_published(shared: Path, trace: str) -> None:
    counts = golden(shared)["typical_pod_counts"][trace]
    jobs = read_jobs(trace)
    every, taken = mix_of(trace, 1.0).typical, mix_of(trace).typical
    assert (len(every), len(taken)) == (counts["groups"], counts["taken"])
    assert round(100 * sum(pod.pods for pod in taken) / len(jobs), 2) == counts["covered_pct"]


def test_a_fresh_choice_among_equals_costs_fgd_more_than_it_gains(shared: Path) -> None:
    wanted = published()["default", "FGD", "allocation_pct"][130]
    assert simulated("default", "FGD", 42, scatter=True).allocated[130] < wanted - 3


@pytest.mark.parametrize(("trace", "ours", "pods"), [("gpuspec10", False, 400), ("multigpu20", True, 400)])
def test_the_scheduler_places_every_pod_on_the_node_and_cards_of_the_simulation(
    shared: Path,
    trace: str,
    ours: bool,
    pods: int,
) -> None:
    settings = fgd.Settings(typical=openb.text_of(mix_of(trace, 0.95).typical), ahead=False)
    live, nodes = openb.Live(openb.ours(trace) if ours else openb.alone(settings), 7, mix_of(trace)), read_nodes()
    order = np.argsort(live.table.columns[ORDER])
    cluster = Cluster(nodes, order, mix_of(trace), mix_of(trace, 1.0 if ours else 0.95), Rule() if ours else PUBLISHED)
    simulation = Replay(cluster, simulated_fgd, np.random.default_rng(0))
    for job in arrivals(read_jobs(trace), 6_212_000, np.random.default_rng(7))[-pods:]:
        found, placed = live.submit(job), simulation.submit(job)
        assert (found.placement is not None) == placed
    place = np.argsort(order)  # of each row in the simulation
    assert (np.maximum(live.table.columns["card/core"][:, :8], 0) * 10 == cluster.cards[place]).all()
    assert (live.table.view().free("cpu") == cluster.cpu[place]).all()
    assert live.allocated == cluster.allocated > 0


def test_the_shipped_list_tells_the_parts_of_a_card_in_the_committed_slice_of_the_trace() -> None:
    with (ROOT / "examples" / "trace" / "openb_pods.csv").open() as lines:
        shapes = {(int(row["cpu_milli"]), int(row["num_gpu"]), int(row["gpu_milli"])) for row in csv.DictReader(lines)}
    known = {(pod.cpu, pod.cards, pod.core) for pod in parse(fgd.OPENB)}
    assert {(cpu, cards, milli if cards else 0) for cpu, cards, milli in shapes} <= known
    assert sum(pod.pods for pod in parse(fgd.OPENB)) == 8152


def test_a_slice_takes_the_card_that_whole_pods_cannot_use() -> None:
    mix = Mix(parse(f"{HALF} 40x2000:1x1000"))
    found = descend(mix, a_room(64_000, [1000, 500, 1000]), 2000, [Ask(1, 500)], Rule())
    assert found.cards.tolist() == [[1000, 0, 1000]]


def test_a_pod_that_eats_the_cpu_of_idle_cards_scores_below_one_that_does_not() -> None:
    mix, room = Mix(parse(f"{HALF} {PAIR}")), a_room(16_000, [1000, 1000])
    hungry, modest = (float(descend(mix, room, cpu, [], PUBLISHED).score[0]) for cpu in (15_000, 1_000))
    assert hungry < modest == 50.0


def test_looking_ahead_sees_cpu_run_out_before_any_typical_pod_stops_fitting() -> None:
    mix = Mix(parse("1x8000:1x1000"))  # 8 cores per card
    rich, poor = a_room(64_000, [1000] * 4), a_room(36_000, [1000] * 4)  # 32 of them are needed
    published = [float(descend(mix, room, 8000, [], PUBLISHED).score[0]) for room in (rich, poor)]
    ahead = [float(descend(mix, room, 8000, [], Rule()).score[0]) for room in (rich, poor)]
    assert published == [50.0, 50.0], "after it three or more pods still fit on either"
    assert ahead[0] == 50.0 > ahead[1]
    idle = np.array([4000])
    assert mix.unfed(idle, np.array([28_000.0])).tolist() == [500.0]


def test_whole_cards_are_the_first_untouched_ones_and_without_them_the_score_is_nothing() -> None:
    mix, room = Mix(parse(f"{HALF} {PAIR}")), a_room(64_000, [500, 1000, 1000, 1000])
    assert descend(mix, room, 8000, [Ask(2, 1000)], Rule()).cards.tolist() == [[500, 0, 0, 1000]]
    assert descend(mix, room, 8000, [Ask(4, 1000)], Rule()).score.tolist() == [0.0]
    assert descend(mix, room, 8000, [Ask(2, 1000), Ask(1, 500)], Rule()).cards.tolist() == [[0, 0, 0, 1000]]


def test_cards_closed_to_a_pod_are_not_given_to_it() -> None:
    room = a_room(64_000, [500, 1000])
    room.open[0, 0] = False
    assert descend(Mix(parse(HALF)), room, 2000, [Ask(1, 500)], Rule()).cards.tolist() == [[500, 500]]


def test_a_card_without_memory_is_idle_to_nobody() -> None:
    mix = Mix([Typical(1, 1000, 1, 500, (), 8192)])
    room = a_room(64_000, [500, 500])
    room.memory[:] = [[8192, 8191]]
    assert mix.fragmentation(room).tolist() == [500.0]
    assert descend(mix, room, 1000, [Ask(1, 100, 4000)], Rule()).cards.tolist() == [[500, 400]]
    assert descend(mix, room, 1000, [Ask(1, 100, 8192)], Rule()).cards.tolist() == [[400, 500]]


def policies_of(settings: fgd.Settings) -> list[Policy]:
    return [
        Policy("fit", fit.PLUGIN),
        Policy("fgd", fgd.PLUGIN, settings=settings),
        Policy("gpu_share", gpu_share.PLUGIN),
    ]


def test_the_cards_that_the_score_counted_on_are_the_placement() -> None:
    table = NodeTable()
    table.describe(a_node(cores=64, cards=2))
    cycle = Cycle(table, policies_of(fgd.Settings(typical="1x2000:1x500")))
    asked = [an_owner(f"u{i}", cores=2, gpu=(core, 4000)) for i, core in enumerate((50, 20, 30, 50))]
    placements = [cycle.decide(pod_of(workload)).placement for workload in asked]
    assert [placement and placement.gpus[0].card for placement in placements] == [0, 1, 1, 0], (
        "a half is left for another half; packing would fill the first card"
    )


def test_a_pod_of_several_containers_gets_the_cards_named_one_ask_after_the_other() -> None:
    table = NodeTable()
    table.describe(a_node(cores=64, cards=3))
    whole = Container(name="train", requests={"cpu": 1000, GPU_CORE: 200})
    part = Container(name="side", requests={"cpu": 1000, GPU_CORE: 40, GPU_MEMORY: 1000})
    workload = an_owner("u1", containers=(part, whole))
    given = fgd.name_cards(pod_of(workload), table, 0, fgd.Settings(), Parts())
    assert isinstance(given, Parts)
    assert given.prefer == (0, 1, 2)
    placement = Cycle(table, policies_of(fgd.Settings())).decide(pod_of(workload)).placement
    assert placement is not None
    assert [(share.container, share.card) for share in placement.gpus] == [("side", 0), ("train", 1), ("train", 2)]


def test_cards_named_by_somebody_else_stay_named() -> None:
    table = NodeTable()
    table.describe(a_node(cores=64, cards=3))
    given = Parts(prefer=(2,))
    assert fgd.name_cards(pod_of(an_owner(gpu=(50, 4000))), table, 0, fgd.Settings(), given) is given


def test_owners_without_cards_keep_away_from_cards_and_guests_go_anywhere() -> None:
    table = NodeTable()
    table.describe(a_node("plain", cores=64))
    assert fgd.least_stranding(pod_of(an_owner()), table.view(), fgd.Settings()) is None, "no card anywhere"
    table.describe(a_node("rich", cores=64, cards=1))
    table.describe(a_node("poor", cores=16, cards=4))
    plain, rich, poor = fgd.least_stranding(pod_of(an_owner(cores=8)), table.view(), fgd.Settings())  # type: ignore[misc]
    assert plain == 100.0 > rich == 50.0 > poor
    assert fgd.least_stranding(pod_of(a_guest()), table.view(), fgd.Settings()) is None


def test_a_touched_card_is_better_for_a_slice_than_an_untouched_one() -> None:
    table = NodeTable()
    for name in ("touched", "idle"):
        table.describe(a_node(name, cores=64, cards=2))
    seed = pod_of(an_owner("u0", cores=2, gpu=(50, 4000)))
    gpus = gpu_share.choose(seed, table, 0, gpu_share.Settings(), Parts()).gpus  # type: ignore[union-attr]
    table.charge("touched", Placement(workload=seed.workload, charged=seed.requests, gpus=gpus), 0.0)
    settings = fgd.Settings(typical="50x2000:1x500 50x2000:1x1000")
    touched, idle = fgd.least_stranding(pod_of(an_owner("u1", cores=2, gpu=(50, 4000))), table.view(), settings)  # type: ignore[misc]
    assert touched > idle


@pytest.mark.parametrize("text", ["5", "5x", "0x1000", "3x-1", "3x10:1x0", "3x10:2x500", "3x10:1x1001", "nanx1:1x10"])
def test_a_list_of_typical_pods_that_makes_no_sense_stops_the_start_and_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match="fgd.*typical"):
        policies(Settings(order=("fit", "fgd"), tune={"fgd.typical": text}))


def test_typical_pods_are_the_most_frequent_ones() -> None:
    pods = [Typical(1, 1, 1, 500, ("a", "b"))] * 8 + [Typical(1, 2, 1, 500)] + [Typical(1, 3)]
    assert typical_pods(pods, 0.8) == (Typical(8, 1, 1, 500, ("a", "b")),)
    assert len(typical_pods(pods, 1.0)) == 3


def test_gpu_pools_are_scored_by_fragmentation_unless_told_otherwise() -> None:
    order = [policy.name for policy in policies(Settings())]
    assert order.index("device_affinity") < order.index("fgd") < order.index("gpu_share"), "who names cards goes first"
    named = policies(Settings(order=("fit", "fgd", "gpu_share"), tune={"fgd.steps": 50}))
    assert next(policy for policy in named if policy.name == "fgd").settings.steps == 50
