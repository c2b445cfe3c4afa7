"""What nodes are to a workload: told in little, for as many nodes as there are."""

from __future__ import annotations

import msgspec
import pytest

from neap.common.errors import Unavailable
from neap.common.model.weighing import FITS, MOST_WEIGHED, UNKNOWN, Obstacle, Weighing, WeighRequest
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived
from neap.common.units import MIB
from neap.scheduler.core.choice.cycle import Cycle
from neap.scheduler.core.choice.framework import Plugin, Policy, Rule
from neap.scheduler.core.flow.machine import SchedulerMachine
from neap.scheduler.core.nodes.table import ORDER, NodeTable
from neap.scheduler.core.nodes.view import View
from neap.scheduler.core.pods.pod import Pod, pod_of
from neap.scheduler.core.why import weigh
from neap.scheduler.settings import Settings
from tests.unit.scheduler_world import World, a_node, a_usage, an_owner, policies


def weighed(world: World, workload: Workload, *nodes: str) -> Weighing:
    return world.machine.weigh(WeighRequest(workload=workload, nodes=nodes))


def test_each_node_asked_about_has_its_verdict_in_the_order_of_the_question() -> None:
    world = World(a_node("n1", rack="r"), a_node("n2", rack="r"), a_node("small", cores=2), a_node("other", zone="b"))
    world.submit(an_owner("there", cores=4, node_selector={"rack": "r"}))
    full, empty = sorted(("n1", "n2"), key=lambda name: name != world.node_of("there"))
    told = weighed(world, an_owner("x", cores=3), "small", empty, "nowhere", full, empty)
    assert told.codes == (1, FITS, UNKNOWN, FITS, FITS)
    assert told.obstacles == (Obstacle(plugin="fit", reason="cpu", resolvable=True),)
    assert told.scores[0] == told.scores[2] == 0
    assert 100 >= told.scores[1] == told.scores[4] > told.scores[3] > 0
    assert told.best in (empty, "other"), "two nodes are empty"
    zoned = weighed(world, an_owner("x", node_selector={"zone": "b"}), empty, "other")
    assert zoned.obstacles == (Obstacle(plugin="node_selector", reason="label zone=b", resolvable=False),)
    assert (zoned.codes, zoned.best, zoned.nodes) == ((1, FITS), "other", ())


def test_all_nodes_come_best_first_with_their_names() -> None:
    world = World(*(a_node(f"n{cores}", cores=cores) for cores in (1, 4, 16)))
    told = weighed(world, an_owner("x", cores=2))
    assert told.nodes == ("n16", "n4", "n1")
    assert (told.codes, told.best, told.left_out) == ((FITS, FITS, 1), "n16", 0)
    assert weighed(World(), an_owner()) == Weighing()


def test_asking_places_nothing_and_wakes_nobody() -> None:
    world = World(a_node("n1", cores=4))
    world.submit(an_owner("waits", cores=5))
    told, trail = list(world.instructions), dict(world.trail)
    first = weighed(world, an_owner("x", cores=3))
    assert first == weighed(world, an_owner("x", cores=3)), "nothing was kept"
    assert (world.instructions, world.trail, world.streams.ledger) == (told, trail, [])
    world.machine.validate()


def test_a_ledger_that_is_busy_for_a_moment_is_told_apart_and_its_node_has_a_score() -> None:
    table = NodeTable()
    cycle = Cycle(table, policies(), worth_waiting=1.0)
    for name, cores in (("n1", 4), ("n2", 16)):
        table.describe(a_node(name, cores=cores))
    table.set_ready("n2", ready=False)
    pod = pod_of(an_owner("x", cores=3))
    told = weigh.told(table, ("n1", "n2"), *cycle.weigh(pod), quantum=1e-6)
    assert told.codes == (FITS, 1)
    assert told.obstacles == (Obstacle(plugin="ledger", reason="busy", resolvable=True, brief=True),)
    assert told.scores[1] > told.scores[0]
    assert told.best == "", "it is worth waiting for the other one"
    assert cycle.decide(pod).node == ""


def test_what_would_be_refused_fits_nowhere_and_says_why() -> None:
    world = World(a_node("n1"))
    asked = an_owner("x", containers=(Container(name="main", requests={"cpu": 1000, "neap.io/gpu-core": 130}),))
    told = weighed(world, asked, "n1", "nowhere")
    assert (told.codes, told.best) == ((1, UNKNOWN), "")
    assert told.obstacles[0].plugin == "submission"
    assert "130" in told.obstacles[0].reason
    assert not told.obstacles[0].resolvable
    assert weighed(world, asked).nodes == ("n1",)


def test_nobody_is_told_anything_before_all_is_read() -> None:
    machine = SchedulerMachine(Settings(), policies())
    machine.handle(Arrived(0.0, a_node("n1")))
    with pytest.raises(Unavailable, match="still reads"):
        machine.weigh(WeighRequest(workload=an_owner()))


def test_a_node_in_use_is_rejected_in_words_that_many_nodes_share() -> None:
    world = World(*(a_node(f"n{i}") for i in range(3)))
    for i in range(3):
        world.tell(Arrived(1.0, a_usage(f"n{i}", cpu=6.0 + i / 2)))
    told = weighed(world, an_owner("x"), "n0", "n1", "n2")
    assert told.codes == (1, 1, 1)
    assert told.obstacles[0].reason.startswith("owners use over 65")


def test_an_answer_about_five_thousand_nodes_is_one_message_whatever_they_and_the_reasons_are_called() -> None:
    most = MOST_WEIGHED + 10
    names = [f"n{number}".ljust(128, "x") for number in range(most)]
    table = NodeTable()
    for name in names:
        table.describe(a_node(name))

    def nasty(_: Pod, view: View, __: object) -> list[Rule]:
        rows = view.column(ORDER)
        return [Rule("\x01" * 100 + f"{i}" * 300, rows % 199 != i) for i in range(199)]

    cycle = Cycle(table, [*policies(), Policy("nasty", Plugin(settings=msgspec.Struct, filter=nasty))])
    told = weigh.told(table, (), *cycle.weigh(pod_of(an_owner())), quantum=1e-6)
    assert (len(told.codes), len(told.scores), len(told.nodes), told.left_out) == (MOST_WEIGHED,) * 3 + (10,)
    assert (told.obstacle(128), told.obstacle(129)) == (weigh.FURTHER, None)
    assert len(msgspec.json.encode(told)) < MIB
    asked = WeighRequest(workload=an_owner(), nodes=tuple(names[:MOST_WEIGHED]))
    assert len(msgspec.json.encode(asked)) < MIB
    some = weigh.told(table, asked.nodes, *cycle.weigh(pod_of(an_owner())), quantum=1e-6)
    assert len(msgspec.json.encode(some)) < MIB // 2
    more = msgspec.json.encode(msgspec.structs.replace(asked, nodes=tuple(names)))
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(more, type=WeighRequest)
