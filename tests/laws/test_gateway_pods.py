"""Whatever happens in whatever order: no pod is lost, bound twice, bound elsewhere than its ledger says, or ended twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from neap.common.kube.objects import PODS
from neap.common.model.lifecycle import Ended, Submitted
from neap.common.runtime.machine import Heard
from neap.gateway.core.acts import Bind
from neap.gateway.core.hearing.reflector import Complete, Removed, Stale
from tests.unit.gateway_world import TERMINAL, World, a_pod

STEPS = (
    "create", "create", "create-bound", "delete", "finish", "run", "others-bind", "news", "news", "news", "hear", "hear",
    "place", "place", "act", "act", "fail", "lose", "restart", "pass", "stale",
)  # fmt: skip
MOST_PODS = 6


class Story:
    """A world, and one step after the other."""

    def __init__(self) -> None:
        self.world, self._made = World(), 0

    def do(self, step: str, number: int) -> None:
        world = self.world
        uids = sorted(world.api)
        uid = uids[number % len(uids)] if uids else ""
        match step:
            case "create" | "create-bound" if len(uids) < MOST_PODS:
                self._made += 1
                node = world.nodes[number % 3] if step == "create-bound" else ""
                pod = a_pod(f"p{self._made}", node=node, scheduler="default-scheduler" if node else "neap")
                world.api[pod.metadata.uid] = pod
                world.change(pod.metadata.uid)
            case "delete" if uid:
                pod = world.api.pop(uid)
                world.news.append(Heard(world.at, Removed(PODS, pod.metadata.key, uid)))
            case "finish" if uid and world.api[uid].spec.node_name:
                world.change(uid, phase="Succeeded")
            case "run" if uid and world.api[uid].spec.node_name and world.api[uid].status.phase == "Pending":
                world.change(uid, phase="Running", container_statuses=a_pod(phase="Running").status.container_statuses)
            case "others-bind" if uid and not world.api[uid].spec.node_name:
                world.change(uid, node=world.nodes[number % 3])
            case "news" if world.news:
                world.tell(world.news.popleft())
            case "hear":
                world.hear(1 + number % 3)
            case "place":
                world.place(number)
            case "act" | "fail" | "lose":
                world.act(fails=step == "fail", answers=step != "lose")
            case "restart":
                world.start()
            case "pass":
                world.pass_time(float(1 + number % 20))
            case "stale":
                world.tell(Heard(world.at, Stale(PODS, world.at - 30, "cut")))
        self.check()

    def check(self) -> None:
        world = self.world
        asked = [act.uid for act in world.acts if isinstance(act, Bind)]
        assert len(asked) == len(set(asked)), f"asked twice at once: {asked}"
        for uid, nodes in world.binds.items():
            assert len(nodes) == 1, f"{uid} was bound to {nodes}"
        for uid in {event.uid for event in world.told(Ended)}:
            ends = [one for one in world.told(Ended, uid) if one.reason in TERMINAL]
            assert len(ends) <= 1, f"{uid} ended {len(ends)} times: {ends}"
            assert not ends or uid not in world.api or world.api[uid].status.phase == "Succeeded", f"{uid} is alive"

    def end(self) -> None:
        """Once everything has arrived, all agree."""
        world = self.world
        world.tell(Heard(world.at, Complete(PODS, "9", len(world.api))))
        world.calm_down()
        self.check()
        for uid, pod in world.api.items():
            assert world.told(Submitted, uid) or pod.status.phase == "Succeeded", f"{uid} was never told"
            if pod.status.phase != "Succeeded":
                assert uid in world.held, f"{uid} is on no ledger"
                assert world.held[uid].node == pod.spec.node_name, f"{uid}: ledger {world.held[uid].node}"
        told = {event.workload.uid for event in world.told(Submitted)}
        for uid in told:
            gone = uid not in world.api or world.api[uid].status.phase == "Succeeded"
            ends = [one for one in world.told(Ended, uid) if one.reason in TERMINAL]
            assert len(ends) == gone, f"{uid}, gone: {gone}, ended {len(ends)} times"
            assert not gone or uid not in world.held, f"{uid} is gone and still on {world.held[uid].node}"


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 60)), max_size=60))
def test_any_order_of_events_and_restarts_leads_to_one_story(steps: list[tuple[str, int]]) -> None:
    story = Story()
    for step, number in steps:
        story.do(step, number)
    story.end()
