"""Sides of nodes as other schedulers see them, and who is asked to leave a node that turns offline."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from neap.common.contract.catalogue import TIDES
from neap.common.kube.objects import BUDGETS, NODES, PODS, Node, OwnerReference
from neap.common.model.tide import LAPSE, Side, TideNode, TidePool, Turning
from neap.common.runtime.machine import Arrived, Done, Failed, Gone, Heard, Instruction, Synced
from neap.gateway.core.acts import Accepted, Evict, NotNow, TaintNode, Written
from neap.gateway.core.hearing.reflector import Complete, Seen
from neap.gateway.core.nodes.views import TIDE, TIDE_OFFLINE, TIDE_ONLINE, node_object
from neap.gateway.core.plans.tides import NODE_TYPE, SIDE_LABEL, Show, TideShowSettings
from neap.gateway.settings import Settings
from tests.unit.gateway_world import World, a_node, a_pod

SET = OwnerReference(kind="ReplicaSet", name="cart-7d9f", uid="rs", controller=True)
HASH = {"pod-template-hash": "7d9f"}
ON, OFF, STEADY, DRAINING, BLOCKED = Side.ONLINE, Side.OFFLINE, Turning.STEADY, Turning.DRAINING, Turning.BLOCKED


class Stage(World):
    """Nodes n1..n3 of a pool with a tide."""

    def __init__(self, show: Show = "none", *, synced: bool = True, **more: Any) -> None:
        super().__init__(Settings(elect=False, tides=TideShowSettings(show=show, **more)))
        for kind in (PODS, NODES, BUDGETS):
            self.tell(Heard(self.at, Complete(kind, "1", 3)))
        if synced:
            self.tell(Synced(self.at, TIDES))

    def say(self, *nodes: tuple[str, Side, Turning], at: float = 0.0) -> list[Instruction]:
        told = tuple(TideNode(node=name, side=side, turning=turning, why="not needed") for name, side, turning in nodes)
        pool = TidePool(at=at or self.at, source="planner", pool="web", nodes=told)
        self.tell(Arrived(self.at, pool, TIDES.at(pool="web").subject))
        return self.pass_time(1.0)

    def run(self, name: str, node: str = "n1", *, owner: OwnerReference | None = SET, **more: Any) -> None:
        """A pod that runs on a node and is on its ledger."""
        self.see(a_pod(name, node=node, phase="Running", scheduler="default-scheduler", owner=owner,
                       metadata={"labels": HASH, **more.pop("metadata", {})}, **more))  # fmt: skip
        self.place()
        self.hear()


def marks(said: list[Instruction]) -> dict[str, tuple[dict[str, str], tuple[str, ...], dict[str, str | None]]]:
    return {one.node: ({taint.key: taint.value for taint in one.put}, one.take, dict(one.labels))
            for one in said if isinstance(one, TaintNode)}  # fmt: skip


def asked(said: list[Instruction]) -> list[str]:
    return [one.name for one in said if isinstance(one, Evict)]


ALL = (("n1", ON, STEADY), ("n2", OFF, STEADY), ("n3", ON, DRAINING))


def test_sides_are_shown_so_that_other_schedulers_can_follow_them() -> None:
    said = Stage("neap").say(*ALL)
    assert marks(said) == {
        "n1": ({}, (), {SIDE_LABEL: "online"}),
        "n2": ({TIDE: "offline"}, (), {SIDE_LABEL: "offline"}),
        "n3": ({TIDE: "turning"}, (), {SIDE_LABEL: "online"}),
    }
    assert all(taint.effect == "NoSchedule" for one in said if isinstance(one, TaintNode) for taint in one.put)


def test_katalysts_names_say_who_does_not_come() -> None:
    assert marks(Stage("katalyst").say(*ALL)) == {
        "n1": ({TIDE_OFFLINE: "true"}, (), {NODE_TYPE: "online"}),
        "n2": ({TIDE_ONLINE: "true"}, (), {NODE_TYPE: "offline"}),
        "n3": ({TIDE_ONLINE: "true", TIDE_OFFLINE: "true"}, (), {NODE_TYPE: "online"}),
    }


def marked(name: str, value: str, side: str) -> Node:
    taints = [
        {"key": TIDE, "value": value, "effect": "NoSchedule"},
        {"key": "other", "value": "", "effect": "NoExecute"},
    ]
    return a_node(name, metadata={"labels": {SIDE_LABEL: side}}, spec={"taints": taints})


def test_what_is_shown_already_is_not_written_and_what_is_not_true_any_more_goes() -> None:
    stage = Stage("neap")
    stage.tell(Heard(stage.at, Seen(NODES, marked("n1", "offline", "offline"), "2")))
    assert not marks(stage.say(("n1", OFF, STEADY)))
    assert marks(stage.say(("n1", ON, DRAINING))) == {"n1": ({TIDE: "turning"}, (), {SIDE_LABEL: "online"})}
    assert not marks(stage.pass_time(5.0))  # under way
    assert not marks(stage.tell(Failed(stage.at, TaintNode("n1"), "not allowed", may_retry=False)))
    assert not marks(stage.pass_time(100.0))  # it failed; its next change is the next chance
    stage.tell(Heard(stage.at, Seen(NODES, marked("n1", "offline", "offline"), "2")))
    [again] = [one for one in stage.pass_time(1.0) if isinstance(one, TaintNode)]
    stage.tell(Done(stage.at, again, Written()))
    stage.tell(Heard(stage.at, Seen(NODES, marked("n1", "turning", "online"), "3")))
    stage.tell(Gone(stage.at, TIDES, TIDES.at(pool="web").subject))
    assert marks(stage.pass_time(1.0)) == {"n1": ({}, (TIDE,), {SIDE_LABEL: None})}


def test_what_is_not_said_any_more_lapses() -> None:
    stage = Stage("neap")
    stage.tell(Heard(stage.at, Seen(NODES, marked("n1", "offline", "offline"), "2")))
    assert not marks(stage.say(("n1", OFF, STEADY)))
    assert marks(stage.pass_time(LAPSE)) == {"n1": ({}, (TIDE,), {SIDE_LABEL: None})}


def test_nothing_is_taken_away_before_everything_was_heard_and_nothing_shown_unless_asked() -> None:
    stage = Stage("neap", synced=False)
    stage.tell(Heard(stage.at, Seen(NODES, marked("n1", "offline", "offline"), "2")))
    assert not marks(stage.pass_time(10.0))
    stage = Stage("none")
    stage.tell(Heard(stage.at, Seen(NODES, marked("n1", "offline", "offline"), "2")))
    assert not marks(stage.say(*ALL))


def test_neaps_own_scheduler_does_not_read_them_but_katalysts_own() -> None:
    assert [one.key for one in node_object(marked("n1", "offline", "offline"), 0.0, {}).taints] == ["other"]
    theirs = a_node(spec={"taints": [{"key": TIDE_ONLINE, "value": "true", "effect": "NoExecute"}]})
    assert [one.key for one in node_object(theirs, 0.0, {}).taints] == [TIDE_ONLINE]


def test_owners_pods_are_asked_to_leave_a_node_that_turns_offline_a_few_at_a_time() -> None:
    stage = Stage(at_once=2)
    for number in range(5):
        stage.run(f"cart-{number}")
    stage.run("elsewhere", "n2")
    said = stage.say(("n1", OFF, DRAINING), ("n2", ON, STEADY))
    assert asked(said) == ["cart-0", "cart-1"]
    acts = [one for one in said if isinstance(one, Evict)]
    assert all(one.grace is None for one in acts)  # their own
    assert not asked(stage.pass_time(1.0))
    for act in acts:
        stage.tell(Done(stage.at, act, Accepted()))
    assert not asked(stage.pass_time(1.0))  # on their way
    stage.remove("uid-cart-0")
    assert asked(stage.pass_time(1.0)) == ["cart-2"]
    lines = [one.entry for one in stage.trail if one.entry.what == "evicted"]
    assert "n1 of pool web turns offline: not needed" in lines[0].why


@pytest.mark.parametrize(
    "more",
    [
        {"owner": OwnerReference(kind="DaemonSet", name="agent", uid="ds", controller=True)},
        {"owner": None},
        {
            "metadata": {"annotations": {"neap.io/qos-level": "reclaimed_cores"}},
            "requests": {"neap.io/reclaimed-millicpu": "1k"},
        },
        {"metadata": {"annotations": {"neap.io/qos-level": "system_cores"}}},
        {"metadata": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}}},
    ],
)
def test_who_is_no_owners_pod_or_nobody_makes_anew_is_never_asked(more: dict[str, Any]) -> None:
    stage = Stage()
    stage.run("stays", **more)
    stage.run("goes")
    assert asked(stage.say(("n1", OFF, DRAINING))) == ["goes"]


@pytest.mark.parametrize("state", [(ON, STEADY), (OFF, STEADY), (ON, DRAINING), (ON, BLOCKED), (OFF, BLOCKED)])
def test_in_no_other_state_anybody_is_asked(state: tuple[Side, Turning]) -> None:
    stage = Stage()
    stage.run("cart")
    assert not asked(stage.say(("n1", *state)))


def test_a_budget_without_room_is_asked_again_later_and_no_more_once_the_node_stays() -> None:
    stage = Stage()
    stage.run("cart")
    [act] = [one for one in stage.say(("n1", OFF, DRAINING)) if isinstance(one, Evict)]
    stage.tell(Done(stage.at, act, NotNow(0.0, "budget cart allows none")))
    tries = []
    for second in range(60):
        for act in [one for one in stage.pass_time(1.0) if isinstance(one, Evict)]:
            tries.append(second)
            stage.tell(Done(stage.at, act, NotNow(0.0, "budget cart allows none")))
    assert 2 <= len(tries) <= 4, tries  # after 5, 10, 20, 40 s
    stage.say(("n1", ON, STEADY))
    assert not [one for _ in range(120) for one in asked(stage.pass_time(1.0))]


def test_what_is_too_old_or_what_is_not_known_asks_nobody_to_leave() -> None:
    stage = Stage()
    stage.run("cart")
    assert not asked(stage.say(("n1", OFF, DRAINING), at=stage.at - LAPSE))
    stage = Stage(drain=False)
    stage.run("cart")
    assert not asked(stage.say(("n1", OFF, DRAINING)))


def test_settings_are_read_as_people_write_them() -> None:
    assert msgspec.convert({"show": "katalyst", "at_once": 2}, TideShowSettings).at_once == 2
