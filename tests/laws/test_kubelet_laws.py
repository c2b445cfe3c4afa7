"""No pod runs twice, whatever the order, repetition and loss of what the kubelet hears.

A history of ledger entries and workload events is told to it live, interleaved in any way, with entries delivered
again, answers of the hosts delayed, evictions repeated, and the process restarted in the middle.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from neap.common.contract.catalogue import DAY_REPORT, PLACEMENTS, WORKLOAD
from neap.common.model.lifecycle import Ended, EndReason, Eviction, Started
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released
from neap.common.model.qos import QosClass
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Done, Emit, Instruction, Synced, Tick
from neap.virtual.behaviour import Origin
from neap.virtual.kubelet import AdvanceHosts, KubeletMachine, StartPod, StopPod
from neap.virtual.parts import Day
from neap.virtual.pod import EndReason as PodEnd
from neap.virtual.pod import Finished
from neap.virtual.settings import Settings
from neap.virtual.tally import Step, Tally

UIDS, NODES = ("u0", "u1", "u2"), ("n1", "n2")
DAY = Day("test", 0.0, 86400.0, ())


class World:
    """Hosts, ledger and workload events as the kubelet's surroundings keep them."""

    def __init__(self) -> None:
        self.ledger: list[LedgerEntry] = []
        self.events: list[Any] = []
        self.ids: set[str] = set()
        self.over: set[tuple[str, int]] = set()
        self.attempts = dict.fromkeys(UIDS, 1)
        self.boot()

    def boot(self) -> None:
        """A new process: hosts are empty, histories are read from their beginning."""
        tally = Tally(DAY, nodes=2, capacity=16.0, step=60.0)
        self.machine = KubeletMachine(Settings(), DAY, {}, Origin(0.0, 300.0, 1), tally)
        self.on_host: dict[str, tuple[str, int]] = {}
        self.answers: deque[Any] = deque()
        self.read_ledger = self.read_events = 0
        self.now = 0.0
        self.tell(Synced(self.now, DAY_REPORT))

    def tell(self, event: Any) -> None:
        """Hand over one event and carry out what it leads to, as the driver does."""
        for act in self.machine.handle(event):
            self.carry_out(act)

    def carry_out(self, act: Instruction) -> None:
        match act:
            case StartPod(node=node, attempt=attempt, pod=pod):
                assert pod.uid not in self.on_host, f"{pod.uid} runs twice: {self.on_host[pod.uid]} and {node}"
                assert (pod.uid, attempt) not in self.over, "an attempt that is over was started"
                self.on_host[pod.uid] = (node, attempt)
                self.answers.append(Done(self.now, act, True))
            case StopPod(node=node, uid=uid):
                assert self.on_host.pop(uid)[0] == node
            case AdvanceHosts(to=to):
                self.answers.append(Done(self.now, act, Step(at=to, core_seconds={}, services=(), violated=())))
            case Emit(message=message, id=id) if id not in self.ids:
                self.ids.add(id)
                self.events.append(message)
                if isinstance(message, Ended):
                    self.over.add((message.uid, message.attempt))

    def hear_ledger(self) -> None:
        if self.read_ledger < len(self.ledger):
            self.read_ledger += 1
            self.tell(Arrived(self.now, self.ledger[self.read_ledger - 1], seq=self.read_ledger))
        else:
            self.tell(Synced(self.now, PLACEMENTS))

    def hear_event(self) -> None:
        if self.read_events < len(self.events):
            self.read_events += 1
            self.tell(Arrived(self.now, self.events[self.read_events - 1], seq=self.read_events))
        else:
            self.tell(Synced(self.now, WORKLOAD))

    def answer(self) -> None:
        if self.answers:
            self.tell(self.answers.popleft())


def workload(uid: str, attempt: int) -> Workload:
    container = Container(name="c", requests={"neap.io/reclaimed-cpu": 1000})
    return Workload(uid=uid, namespace="x", name=uid, qos=QosClass.RECLAIMED, containers=(container,), attempt=attempt)


def act_on(world: World, what: str, uid: str, node: str) -> None:
    """One thing that happens around the kubelet; the scheduler may be as wrong as it likes."""
    world.now += 7.0
    attempt = world.attempts[uid]
    match what:
        case "place":
            placement = Placement(workload=workload(uid, attempt), charged={})
            world.ledger.append(Placed(at=0, source="s", node=node, placement=placement, reason=""))
        case "release":
            world.ledger.append(Released(at=0, source="s", node=node, uid=uid, reason=""))
        case "checkpoint":
            placements = (Placement(workload=workload(uid, attempt), charged={}),)
            world.ledger.append(Checkpoint(at=0, source="s", node=node, placements=placements))
        case "requeue":
            world.attempts[uid] += 1
        case "evict":
            world.tell(Arrived(world.now, an_eviction(uid, node, attempt), redelivered=True))
        case "delete":
            world.events.append(Ended(at=0, source="g", uid=uid, node=node, attempt=attempt, reason=EndReason.DELETED))
        case "again" if world.read_ledger:
            index = UIDS.index(uid) * 7 % world.read_ledger
            world.tell(Arrived(world.now, world.ledger[index], seq=index + 1, redelivered=True))
        case "again-event" if world.read_events:
            world.tell(Arrived(world.now, world.events[world.read_events - 1], redelivered=True))
        case "finish" if uid in world.on_host:
            finish(world, uid)
        case "tick":
            world.tell(Tick(world.now, "advance"))
        case "restart":
            world.boot()
        case "ledger":
            world.hear_ledger()
        case "event":
            world.hear_event()
        case "answer":
            world.answer()


def an_eviction(uid: str, node: str, attempt: int) -> Eviction:
    return Eviction(
        at=0, source="e", node=node, uid=uid, namespace="x", name=uid, attempt=attempt, rule="r", reason="", measured=(),
        ranking="", grace=0,
    )  # fmt: skip


def finish(world: World, uid: str) -> None:
    """The host reports it done with the next step, perhaps of an attempt that is gone by then."""
    for index, answer in enumerate(world.answers):
        if isinstance(answer.outcome, Step):
            run = world.machine._runs.get(uid)
            container = min(run.containers) if run else "gone"
            ended = Finished(at=world.now, uid=uid, container=container, reason=PodEnd.DONE, core_seconds=1.0)
            world.answers[index] = Done(
                answer.at,
                answer.instruction,
                Step(at=world.now, core_seconds={uid: 1.0}, services=(), violated=(), finished=(ended,)),
            )


WORDS = (
    "place", "place", "release", "checkpoint", "requeue", "evict", "delete", "again", "again-event", "finish", "tick", "restart",
    "ledger", "ledger", "ledger", "event", "event", "answer", "answer",
)  # fmt: skip
happenings = st.lists(
    st.tuples(st.sampled_from(WORDS), st.sampled_from(UIDS), st.sampled_from(NODES)), min_size=1, max_size=80
)


@given(happenings)
def test_no_pod_runs_twice(history: list[tuple[str, str, str]]) -> None:
    world = World()
    world.hear_ledger()  # nothing there yet: synced from the start, until a restart
    world.hear_event()
    for what, uid, node in history:
        act_on(world, what, uid, node)
    for _ in range(len(world.ledger) + len(world.events) + 8):
        world.hear_ledger()
        world.hear_event()
        world.answer()
    while world.answers or world.read_events < len(world.events):
        world.answer()
        world.hear_event()
    held: dict[str, dict[str, int]] = {}
    for entry in world.ledger:
        match entry:
            case Placed(node=node, placement=placement):
                held.setdefault(node, {})[placement.workload.uid] = placement.workload.attempt
            case Released(node=node, uid=uid):
                held.get(node, {}).pop(uid, None)
            case Checkpoint(node=node, placements=placements):
                held[node] = {p.workload.uid: p.workload.attempt for p in placements}
    last = {
        uid: max((e.attempt for e in world.events if isinstance(e, Ended) and e.uid == uid), default=0) for uid in UIDS
    }
    alive = {uid for nodes in held.values() for uid, attempt in nodes.items() if attempt > last[uid]}
    assert set(world.on_host) == alive, "in the end exactly what the ledger holds and is not over runs"
    started = [(e.uid, e.attempt) for e in world.events if isinstance(e, Started)]
    assert len(started) == len(set(started))
