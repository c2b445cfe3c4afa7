"""What the scheduler answers to people, and that asking changes nothing."""

from __future__ import annotations

import random

import msgspec
import pytest

from neap.common.model.explanation import MOST_DRY_RUN, DryRun, ExplainRequest, Explanation
from neap.common.model.lifecycle import EndReason
from neap.common.model.node import NodeObject
from neap.common.model.weighing import WeighRequest
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived
from neap.common.units import MIB
from neap.scheduler.core.why.answer import MOST_IN_FULL
from tests.unit.scheduler_world import World, a_guest, a_node, a_usage, an_offer, an_owner


def explained(world: World, name: str, namespace: str = "shop") -> Explanation:
    return world.machine.explain(ExplainRequest(namespace=namespace, name=name))


def tried(world: World, *workloads: Workload) -> tuple[Explanation, ...]:
    return world.machine.dry_run(DryRun(workloads=workloads)).answers


def test_a_waiting_pod_is_told_the_nearest_miss_and_what_would_do() -> None:
    world = World(a_node("n1", cores=2), a_node("n17", cores=6.5, zone="b"), a_node("n3", cores=32, zone="a"))
    world.submit(an_owner("there", cores=26, node_selector={"zone": "a"}))
    world.submit(an_owner("big", cores=8))
    big = explained(world, "big")
    assert (big.state, big.nodes, big.feasible, big.best) == ("queued", 3, 0, None)
    assert [(one.plugin, one.reason, one.nodes, one.alone) for one in big.rejected] == [("fit", "cpu", 3, 3)]
    assert big.rejected[0].nearest == "n17 has 6.5 of 6.5 cores free, 8 asked"
    assert [one.says for one in big.remedies] == ["asking for at most 6.5 cores, which n17 has free,"]
    world.submit(an_owner("zoned", cores=8, node_selector={"zone": "a"}))
    zoned = explained(world, "zoned")
    assert [(one.plugin, one.nodes, one.says) for one in zoned.remedies] == [("fit", 1, "2 more cores free on n3")]
    world.submit(an_owner("small", cores=6.5, node_selector={"zone": "c"}))
    small = explained(world, "small")
    assert [(one.plugin, one.nodes, one.says) for one in small.remedies] == [("node_selector", 1, "relaxing zone=c")]
    world.submit(an_owner("lost", cores=7, node_selector={"zone": "c"}))
    lost = explained(world, "lost")
    assert not lost.remedies
    assert lost.closest.endswith("fails fewest rules: node_selector label zone=c, fit cpu")


def test_a_placed_pod_is_told_where_it_would_go_now_and_what_was_said_then() -> None:
    world = World(a_node("n1"), a_node("n2"))
    world.submit(an_owner("a", cores=2))
    node = world.node_of("a")
    now = explained(world, "a")
    assert (now.state, now.node, now.feasible, now.nodes) == ("placed", node, 2, 2)
    assert now.best is not None
    assert now.best.node == node
    assert now.second is not None
    assert now.best.score == pytest.approx(now.second.score), "two empty equal nodes, were it not there"
    assert now.reason == world.why("a.1.placed")
    world.tell(Arrived(5.0, a_usage("n1", at=5.0)), Arrived(5.0, a_usage("n2", at=5.0, cpu=7.0)))
    again = explained(world, "a")
    assert again.best is not None
    assert again.best.node == "n1"
    assert again.second is None, "its owners use over 65 %"


def test_a_dry_run_lets_each_pod_take_its_part_and_gives_everything_back() -> None:
    world = World(a_node("n1", cores=4), a_node("n2", cores=4))
    world.submit(an_owner("a", cores=1))
    told, trail = list(world.instructions), dict(world.trail)
    asked = [an_owner(f"r{number}", cores=3) for number in range(3)]
    first = tried(world, *asked)
    assert [answer.state for answer in first] == ["fits", "fits", "waiting"]
    assert {answer.node for answer in first} == {"n1", "n2", ""}
    assert first == tried(world, *asked), "nothing was kept"
    assert (world.instructions, world.trail) == (told, trail)
    assert len(world.streams.ledger) == 1
    world.machine.validate()
    world.submit(an_owner("b", cores=3), an_owner("c", cores=3))
    assert {world.node_of("b"), world.node_of("c")} == {"n1", "n2"}


def test_a_dry_run_refuses_what_submitting_would_refuse() -> None:
    nothing = an_owner("none", containers=(Container(name="main", requests={"cpu": 1000, "neap.io/gpu-core": 130}),))
    answers = tried(World(a_node()), nothing, an_owner("fine"))
    assert [answer.state for answer in answers] == ["refused", "fits"]
    assert "130" in answers[0].reason


def test_a_dry_run_without_any_node_says_so() -> None:
    (answer,) = tried(World(), an_owner())
    assert answer.state == "waiting"
    assert "no node is known yet" in answer.reason


def test_answers_stay_small_whatever_is_asked() -> None:
    nodes = [a_node(f"n{number}", cores=1, **{f"label{number}": "x" * 60}) for number in range(60)]
    world = World(*nodes)
    selector = {f"k{number}" + "y" * 100: "z" * 60 for number in range(60)}
    asked = tuple(an_owner(f"u{i}", cores=100 + i, node_selector=selector) for i in range(MOST_DRY_RUN))
    answers = tried(world, *asked)
    assert len(msgspec.json.encode(answers)) < MIB // 2
    assert sum(bool(answer.rejected) for answer in answers) == MOST_IN_FULL
    assert all(answer.reason for answer in answers)


@pytest.mark.parametrize("seed", range(3))
def test_whoever_asks_however_often_the_scheduler_decides_the_same(seed: int) -> None:
    def live(*, curious: bool) -> World:
        rng = random.Random(seed)
        world = World(*(a_node(f"n{i}", cores=rng.choice([4, 8]), cards=i % 3, zone="ab"[i % 2]) for i in range(5)))
        uids = list[str]()
        for step in range(60):
            match rng.choice(["owner", "owner", "gpu", "guest", "end", "usage", "offer", "time", "label"]):
                case "owner":
                    world.submit(an_owner(f"u{step}", cores=rng.choice([1, 3]), labels={"app": "a"}))
                case "gpu":
                    world.submit(an_owner(f"u{step}", gpu=rng.choice([(30, 4000), (100, 0)])))
                case "guest":
                    world.submit(a_guest(f"u{step}"))
                case "end" if uids:
                    world.end(an_owner(uids.pop(rng.randrange(len(uids)))), EndReason.FINISHED)
                case "usage":
                    usage = a_usage(f"n{rng.randrange(5)}", at=world.at, cpu=rng.random() * 4, containers={"u1": 1.0})
                    world.tell(Arrived(world.at, usage))
                case "offer":
                    world.tell(Arrived(world.at, an_offer(f"n{rng.randrange(5)}", at=world.at)))
                case "label":
                    node = NodeObject(at=world.at, source="gateway", node=f"n{rng.randrange(5)}", labels={"zone": "c"})
                    world.tell(Arrived(world.at, node))
                case _:
                    world.pass_time(rng.choice([1.0, 40.0]))
            uids = sorted({uid for held in world.streams.held.values() for uid in held})
            if curious:
                for number in range(max(0, step - 10), step + 1):
                    explained(world, f"u{number}")
                others = an_owner("x", cores=2, labels={"app": "a"}), an_owner("y", gpu=(30, 4000)), a_guest("z")
                tried(world, *others)
                for other in others:
                    world.machine.weigh(WeighRequest(workload=other))
        return world

    asked, left_alone = live(curious=True), live(curious=False)
    assert asked.streams.ledger == left_alone.streams.ledger
    assert asked.instructions == left_alone.instructions
