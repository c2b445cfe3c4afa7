"""Whatever is resized, restarts or comes late: once it is quiet every ledger holds what the kubelet really gave."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neap.common.kube.objects import NODES, PODS, Condition, Pod
from neap.common.model.lifecycle import Started
from neap.common.runtime.machine import Heard, Synced
from neap.gateway.core.hearing.reflector import Complete, Seen
from neap.gateway.core.kinds.table import KINDS
from neap.gateway.core.machine import STORED, GatewayMachine
from tests.unit.gateway_world import World, a_node, a_pod

SIZES = ("250m", "1", "2", "3500m")
STEPS = ("patch", "patch", "give", "give", "defer", "news", "hear", "charge", "restart", "restart-bus-first", "pass", "blank")  # fmt: skip
PODS_MADE = 3

_replace = msgspec.structs.replace


class Resized(World):
    """Pods that run where others placed them, a kubelet that gives them sizes, and a scheduler that charges what it heard."""

    def __init__(self) -> None:
        super().__init__()
        self.has: dict[str, str] = {}
        self.given = 0
        for number in range(PODS_MADE):
            pod = a_pod(f"p{number}", node="n1", phase="Running", scheduler="default-scheduler")
            self.has[pod.metadata.uid] = "1"
            self.see(self.with_size(pod, "1"))
        self.place()
        self.hear()

    def start(self, *, bus_first: bool = False) -> None:
        """A new life; what is stored and what the API has come in either order."""
        if not bus_first:
            return super().start()
        self.acts.clear()
        self.news.clear()
        self.machine = GatewayMachine(self.settings)
        self.heard_life = self.heard_ledger = 0
        self.hear()
        self.tell(*(Synced(self.at, channel) for channel in STORED))
        self.tell(*(Heard(self.at, Seen(NODES, a_node(name), "1")) for name in self.nodes))
        self.tell(*(Heard(self.at, Seen(PODS, pod, "1")) for pod in self.api.values()))
        self.tell(*(Heard(self.at, Complete(kind, "1", 1)) for kind in (PODS, NODES, *KINDS)))
        return self.hear()

    def with_size(self, pod: Pod, has: str, **more: Any) -> Pod:
        [status] = pod.status.container_statuses or ()
        amounts = {"requests": {"cpu": has, "memory": "1Gi"}} if has else {}
        resources = msgspec.convert(amounts, type(pod.spec.containers[0].resources))
        return _replace(
            pod, status=_replace(pod.status, container_statuses=(_replace(status, resources=resources),), **more)
        )

    def do(self, step: str, number: int) -> None:
        uid = sorted(self.api)[number % len(self.api)]
        pod = self.api[uid]
        [main] = pod.spec.containers
        match step:
            case "patch":
                wish = {"cpu": SIZES[number % len(SIZES)], "memory": "1Gi"}
                container = _replace(main, resources=_replace(main.resources, requests=wish))
                self.api[uid] = _replace(pod, spec=_replace(pod.spec, containers=(container,)))
                self.change(uid)
            case "give":
                self.given += 1
                self.has[uid] = str((main.resources.requests or {})["cpu"])
                self.api[uid] = self.with_size(pod, self.has[uid], conditions=())
                self.change(uid)
            case "defer":
                pending = Condition(type="PodResizePending", status="True", reason="Deferred")
                self.api[uid] = self.with_size(pod, self.has[uid], conditions=(pending,))
                self.change(uid)
            case "blank":  # its container starts anew
                self.api[uid] = self.with_size(pod, "")
                self.change(uid)
            case "news" if self.news:
                self.tell(self.news.popleft())
            case "hear":
                self.hear(1 + number % 3)
            case "charge":
                self.charge()
            case "restart" | "restart-bus-first":
                self.start(bus_first=step != "restart")
            case "pass":
                self.pass_time(float(number % 20))

    def charge(self) -> None:
        """The ledger takes the newest word over, if that is news."""
        latest = dict[str, Started]()
        for event in self.told(Started):
            if event.size is not None and (event.uid not in latest or event.at > latest[event.uid].at):
                latest[event.uid] = event
        for uid, event in sorted(latest.items()):
            placed = self.held[uid]
            workload = placed.placement.workload
            if event.size is not None and workload.size != event.size:
                after = workload.sized(event.size)
                placement = _replace(placed.placement, workload=after, charged=after.requests)
                self.held[uid] = _replace(placed, placement=placement)
                self.ledger.append(self.held[uid])

    def end(self) -> None:
        """Every kubelet says what is, and everything arrives."""
        for uid, pod in list(self.api.items()):
            self.api[uid] = self.with_size(pod, self.has[uid])
            self.change(uid)
        for _ in range(3):
            while self.news:
                self.tell(self.news.popleft())
            self.charge()
            self.hear()
            self.pass_time(60.0)


@given(st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 60)), max_size=50))
def test_in_the_end_the_ledger_holds_what_pods_really_have(steps: list[tuple[str, int]]) -> None:
    world = Resized()
    for step, number in steps:
        world.do(step, number)
    world.end()
    units = dict(zip(SIZES, (250, 1000, 2000, 3500), strict=True))
    held = {uid: placed.placement.charged["cpu"] for uid, placed in world.held.items()}
    assert held == {uid: units[has] for uid, has in world.has.items()}
    told = [event for event in world.told(Started) if event.size is not None]
    assert len(told) <= world.given, "something was told that was not given"
    before = len(world.life), len(world.ledger)
    world.start()
    world.end()
    assert (len(world.life), len(world.ledger)) == before, "a restart told something again"
