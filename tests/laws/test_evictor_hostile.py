"""Laws of the whole evictor, as it is wired, under any stream of events: late, twice, mangled, unanswered, restarted.

The machine stands as in wiring.py: memory around policy around the rules. Its bus keeps the ledger, tokens, policy and
memory, answers when it likes or never, and stores a command once. The clock of one life only goes on; what others say
carries any time at all.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import msgspec
from hypothesis import settings as limits
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from neap.common.contract.catalogue import ADVICE, EVICTION_TOKENS, HEADROOM, MEMORY, NODES, PLACEMENTS, POLICY, TIDES
from neap.common.model.advice import CgroupAdvice, Headroom, Knobs, NodeAdvice, Noisy, PoolAdvice
from neap.common.model.evicting import Evicting, Token
from neap.common.model.lifecycle import Eviction, Preemption
from neap.common.model.memory import RoomMemory
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released, fold
from neap.common.model.policy import PolicyDocument
from neap.common.model.protection import may_leave, minimum
from neap.common.model.qos import QosClass
from neap.common.model.resource import RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.scheduling import Gang
from neap.common.model.tide import Side, TideNode, TidePool, Turning
from neap.common.model.trail import TrailEntry
from neap.common.model.usage import ContainerUsage, DeviceUsage, FilesystemUsage, NodeUsage, NumaUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Decide, Done, Emit, Event, Failed, Gone, Put, Stopping, Synced
from neap.common.runtime.remembering import Keep, RememberingMachine
from neap.common.runtime.tuning import TunedMachine, Tuning
from neap.common.units import GIB
from neap.evictor.core import services
from neap.evictor.core.machine import EvictorMachine
from neap.evictor.core.memory import Memory
from neap.evictor.core.tokens import SharedBudgets
from neap.evictor.settings import Settings
from tests.unit.evictor_world import RULES
from tests.unit.policy_world import a_policy, an_edition

NAN, INF = math.nan, math.inf
UIDS = ("a", "b", "c", "d")
MOST, WINDOW, SHARED, SPACE = 2, 6, 20.0, 3
OWN: dict[str, Any] = {"most": MOST, "window": WINDOW, "grace": 2.0, "confirm_after": 2, "keep_every": 3.0}
BUDGETS = SharedBudgets(window=SHARED, workload=0, namespace=0, cluster=SPACE)

mad = st.sampled_from([None, 0.0, 0.5, 8.0, NAN, INF, -INF, -1.0, 1e308])
sizes = st.sampled_from([None, 0, GIB, 9 * GIB, 2**62, -1])
shares = st.sampled_from([0.0, 0.9, NAN, INF, -1.0])
stalls = st.none() | st.builds(Stall, some60=shares, full10=shares, full=st.none() | shares)
moments = st.sampled_from([0.0, 0.0, 0.0, 0.0, -0.5, -3.0, -1e6, 5.0, 1e9, NAN, 1e308, -1e308])  # against the clock
periods = st.sampled_from([1.0, 1.0, 1.0, 0.0, -1.0, NAN, INF, 1e308])
cpus = st.sampled_from([None, "", "0-3", "9-2", "0-4294967295"])
workloads = st.builds(
    lambda uid, **fields: Workload(
        uid=uid, namespace="batch", name=uid,
        containers=(Container(name="c", requests={RECLAIMED_CPU: fields.pop("cpu"), RECLAIMED_MEMORY: fields.pop("memory")}),),
        **fields,
    ),
    uid=st.sampled_from(UIDS), cpu=st.sampled_from([0, 500, 4000]), memory=st.sampled_from([0, 1, GIB]),
    qos=st.sampled_from([*[QosClass.RECLAIMED] * 5, QosClass.SHARED, QosClass.DEDICATED]),
    attempt=st.integers(1, 3), priority=st.sampled_from([0, -(2**31), 9]),
    labels=st.sampled_from([{}, {}, {}, {"neap.io/protected": "true"}, {"neap.io/min-available": "1"}]),
    owner=st.sampled_from(["", "Job/j", "StatefulSet/s"]), gang=st.sampled_from([None, None, Gang(name="g", least=1)]),
    annotations=st.sampled_from([{}, {"neap.io/memory-overuse": "nan"}, {"neap.io/suppression-tolerance": "1e999"}]),
)  # fmt: skip
containers = st.builds(
    ContainerUsage,
    uid=st.sampled_from(UIDS), container=st.just("c"), cgroup=st.sampled_from([f"/k/{uid}" for uid in UIDS]),
    cpu=mad, working_set=sizes, cpu_stall=stalls, io_stall=stalls, io_read=mad, io_write=mad, bandwidth=mad,
    run_delay=mad, cpuset=cpus, memory_nodes=st.sampled_from([None, (), (GIB,), (-1, 3)]),
)  # fmt: skip
devices = st.builds(DeviceUsage, name=st.just("d"), read=mad, write=mad, busy=mad, speed=mad)
files = st.builds(FilesystemUsage, path=st.just("/"), size=sizes, free=sizes, inodes=sizes, inodes_free=sizes)
numas = st.builds(
    NumaUsage, index=st.sampled_from([0, 1]), cpu=mad, memory_free=sizes, memory_total=sizes, bandwidth=mad,
    watermark_low=sizes,
)  # fmt: skip
fields = st.fixed_dictionaries(
    {"memory_available": st.sampled_from([0, 0, 500 * 2**20, 9 * GIB, None, -1, 2**62])},
    optional={
        "memory_stall": stalls, "io_stall": stalls, "disks": st.lists(devices, max_size=2).map(tuple),
        "links": st.lists(devices, max_size=2).map(tuple), "numa": st.lists(numas, max_size=2).map(tuple),
        "filesystems": st.lists(files, max_size=2).map(tuple), "cpu": mad,
    },
)  # fmt: skip
amounts = st.sampled_from([1e308, 2**62, 1000, 1, 0.5, 0])
keys = st.sampled_from(
    [
        f"{group}.{name}" if name else group
        for group in Settings.__struct_fields__
        for inner in (getattr(Settings(), group),)
        for name in (inner.__struct_fields__ if isinstance(inner, msgspec.Struct) else ("",))
        if group
        not in {
            "node",
            "most",
            "window",
            "shared",
            "order",
            "off",
            "grace",
            "keep_every",
            "keep_patience",
            "confirm_after",
            "reopen",
        }
        and name not in {"on", "only"}
    ]
)
eager = st.sampled_from([{f"{name}.dry_run": False, f"{name}.reports": 1} for name in RULES])


class Hostile(RuleBasedStateMachine):
    """One evictor after another on one node."""

    def __init__(self) -> None:
        super().__init__()
        self.at, self.seq, self.revision, self.reports = 1000.0, 0, 0, 0
        self.ledger: list[Arrived[Any]] = []
        self.here: dict[str, Placement] = {}
        self.tokens: dict[str, tuple[int, Token]] = {}
        self.policies: dict[str, PolicyDocument] = {}
        self.memory: tuple[RoomMemory, int] | None = None
        self.waiting: list[Put] = []
        self.commands: dict[str, Eviction] = {}
        self.times: list[float] = []
        self.full: NodeUsage | None = None
        self.closing: Evicting | None = None
        self.start()

    def start(self) -> None:
        tuning = Tuning(services.tunable(RULES), Settings(node="n1", shared=BUDGETS, **OWN), "n1")
        asks = {"is_protected": partial(services.is_protected, tuning), "policies": partial(services.claims, tuning)}
        self.machine = EvictorMachine(tuning.settings, services.with_services(RULES, tuning), **asks)
        keep = Keep("evictor", "n1", OWN["keep_every"], 3600.0)
        self.whole = RememberingMachine(TunedMachine(self.machine, tuning), self.machine, Memory, keep)
        self.waiting.clear()
        for entry in self.ledger:
            self.tell(Arrived(self.at, entry.message, "", entry.seq))
        for key, (revision, token) in self.tokens.items():
            self.tell(Arrived(self.at, token, key, revision))
        for document in self.policies.values():
            self.tell(Arrived(self.at, document, POLICY.at(room="evictor", name=document.name).subject))
        if self.memory is not None:
            self.tell(Arrived(self.at, self.memory[0], "", self.memory[1]))
        for channel in (PLACEMENTS, EVICTION_TOKENS, POLICY, NODES, TIDES, MEMORY):
            self.tell(Synced(self.at, channel))

    def tell(self, event: Event) -> None:
        for said in self.whole.handle(event):
            match said:
                case Put(value=Token()):
                    self.waiting.append(said)
                case Put(value=RoomMemory() as memory):
                    self.revision += 1
                    self.memory = (msgspec.json.decode(msgspec.json.encode(memory), type=RoomMemory), self.revision)
                case Put(value=Evicting() as closing):
                    self.closing = round_trip(closing)
                case Decide(entry=entry):
                    assert isinstance(round_trip(entry), TrailEntry)
                case Emit(message=Eviction() as command, id=id):
                    self.commanded(round_trip(command), id)
        self.whole.validate()

    def commanded(self, command: Eviction, id: str) -> None:
        if id in self.commands:
            return  # the stream stores it once
        self.commands[id] = command
        self.times.append(self.at)
        placement = self.here[command.uid]
        assert may_leave(placement.workload), "an owner, or somebody protected, is to leave"
        assert placement.workload.attempt == command.attempt
        assert command.reason
        assert command.ranking
        assert command.measured
        assert sum(at > self.at - WINDOW for at in self.times) <= MOST, "more than the budget of the node"

    # -- what happens ------------------------------------------------------------------------------------------------

    @rule(by=st.sampled_from([0.1, 1.0, 1.0, 1.0, 4.0, 30.0]))
    def time_goes_on(self, by: float) -> None:
        self.at += by

    def append(self, entry: LedgerEntry) -> None:
        self.seq += 1
        self.here = fold(self.here, entry)
        told = Arrived(self.at, entry, "", self.seq)
        self.ledger.append(told)
        self.tell(told)

    @rule(workload=workloads, ago=moments)
    def a_workload_is_placed_or_resized(self, workload: Workload, ago: float) -> None:
        before = self.here.get(workload.uid)
        if before is not None and before.workload.attempt >= workload.attempt:
            workload = msgspec.structs.replace(before.workload, containers=workload.containers)
        at = self.at + ago if math.isfinite(ago) else self.at
        placement = Placement(workload=workload, charged=workload.requests)
        self.append(Placed(at=at, source="s", node="n1", placement=placement, reason=""))

    @rule(uid=st.sampled_from(UIDS))
    def a_workload_is_released(self, uid: str) -> None:
        self.append(Released(at=self.at, source="s", node="n1", uid=uid, reason=""))

    @rule()
    def the_ledger_is_summed_up(self) -> None:
        self.append(Checkpoint(at=self.at, source="s", node="n1", placements=tuple(self.here.values())))

    @precondition(lambda self: self.ledger)
    @rule(data=st.data())
    def an_entry_comes_again(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.ledger))
        self.tell(Arrived(self.at, old.message, "", old.seq, redelivered=True))

    @rule(
        seen=st.lists(containers, max_size=4).map(tuple),
        rest=fields,
        ago=moments,
        period=periods,
        since=st.booleans(),
        lost=st.booleans(),
    )
    def a_report_comes(self, seen: Any, rest: Any, ago: float, period: float, since: bool, lost: bool) -> None:  # fmt: skip
        self.reports += 1
        report = NodeUsage(
            at=self.at + ago, source="r", node="n1", seq=self.reports, period=period, containers=seen,
            since=self.full.seq if since and self.full is not None else 0, **rest,
        )  # fmt: skip
        self.full = self.full if report.since else report
        if not lost:
            self.tell(Arrived(self.at, report))

    @rule(available=st.sampled_from([0, 9 * GIB]), holds=st.sampled_from([GIB, 5 * GIB]), times=st.integers(1, 6))
    def memory_is_short_or_not(self, available: int, holds: int, times: int) -> None:
        for _ in range(times):
            self.plain_report(available, holds)

    def plain_report(self, available: int, holds: int) -> None:
        self.at += 1.0
        self.reports += 1
        seen = tuple(
            ContainerUsage(uid=uid, container="c", cgroup=f"/k/{uid}", working_set=holds, cpu=1.0) for uid in UIDS
        )
        self.full = NodeUsage(
            at=self.at, source="r", node="n1", seq=self.reports, period=1.0, containers=seen,
            memory_available=available,
        )  # fmt: skip
        self.tell(Arrived(self.at, self.full))

    @rule(cores=st.sampled_from([0, 1000, 2**62, -5]), ago=moments, stale=st.sampled_from(["", "no usage"]))
    def an_offer_is_heard(self, cores: int, ago: float, stale: str) -> None:
        offer = {RECLAIMED_CPU: cores} if cores != -5 else {}
        self.tell(
            Arrived(
                self.at,
                Headroom(at=self.at + ago, source="a", node="n1", offer=offer, arithmetic={}, stale=stale),
            )
        )

    @rule(where=st.sampled_from(["0-3", "x", ""]), quota=mad, uid=st.sampled_from(UIDS), expires=moments)
    def advice_is_heard(self, where: str, quota: float | None, uid: str, expires: float) -> None:
        pools = tuple(PoolAdvice(name=name, cpus=where, requirement=0.0, reason="") for name in ("reclaimed", "share"))
        cgroups = tuple(
            CgroupAdvice(target=target, pool="share", knobs=Knobs(cpu_max=quota, memory_high=5))
            for target in ("class/besteffort", f"pod/{uid}")
        )
        noisy = Noisy(
            uid=uid, attempt=1, owner="o", signal="cpi", value=2.0, threshold=1.0, quota=1.0, since=self.at, leave=True,
            reason="it disturbs",
        )  # fmt: skip
        advice = NodeAdvice(
            at=self.at, source="a", node="n1", seq=1, expires=self.at + expires, pools=pools, cgroups=cgroups,
            noisy=(noisy,),
        )  # fmt: skip
        self.tell(Arrived(self.at, advice))

    @rule(ago=moments, side=st.sampled_from(Side), turning=st.sampled_from(Turning))
    def the_tide_turns(self, ago: float, side: Side, turning: Turning) -> None:
        node = TideNode(node="n1", side=side, turning=turning)
        self.tell(Arrived(self.at, TidePool(at=self.at + ago, source="p", pool="web", nodes=(node,))))

    @rule(
        victims=st.lists(st.sampled_from([*UIDS, "nobody"]), max_size=5).map(tuple),
        attempt=st.integers(1, 3),
        ago=moments,
        short=st.booleans(),
    )
    def the_scheduler_asks(self, victims: tuple[str, ...], attempt: int, ago: float, short: bool) -> None:
        attempts = (attempt,) * (len(victims) - short)
        asked = Preemption(
            at=self.at + ago, source="s", node="n1", victims=victims, attempts=attempts, beneficiary="o", reason="r"
        )
        self.tell(Arrived(self.at, asked))

    # -- tokens ------------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.waiting)
    @rule(how=st.sampled_from(["answer", "answer", "answer", "away", "refused", "lost answer", "twice"]))
    def the_bus_answers(self, how: str) -> None:
        put = self.waiting.pop(0)
        if how == "away":
            return self.tell(Failed(self.at, put, "no connection", may_retry=True))
        if how == "refused" or self.tokens.get(put.key.subject, (0, None))[0] != put.revision:
            return self.tell(Failed(self.at, put, "no longer at this revision", may_retry=False))
        self.revision += 1
        self.tokens[put.key.subject] = (self.revision, put.value)
        if how == "lost answer":  # the watch tells all the same
            return self.tell(Arrived(self.at, put.value, put.key.subject, self.revision))
        for _ in range(2 if how == "twice" else 1):
            self.tell(Done(self.at, put, self.revision))
        return None

    @rule()
    def the_bus_answers_all(self) -> None:
        while self.waiting:
            self.the_bus_answers("answer")

    @rule(slot=st.integers(-1, 4), until=moments)
    def another_node_takes_a_slot(self, slot: int, until: float) -> None:
        token = Token(
            at=self.at, source="evictor", scope="cluster", name="x", slot=slot, of="all", until=self.at + until,
            node="n2", uid="z", attempt=1,
        )  # fmt: skip
        self.revision += 1
        self.tell(Arrived(self.at, token, "", self.revision))

    @precondition(lambda self: self.tokens)
    @rule(data=st.data())
    def a_slot_is_forgotten(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.tokens)))
        if self.tokens[key][1].until <= self.at:
            del self.tokens[key]
            self.tell(Gone(self.at, EVICTION_TOKENS, key))

    # -- policy, and lives -------------------------------------------------------------------------------------------

    @rule(key=keys, value=amounts, wild=st.booleans(), brave=eager)
    def policy_changes(self, key: str, value: Any, wild: bool, brave: dict[str, Any]) -> None:
        document = a_policy("p" if wild else "q", an_edition({key: value} if wild else brave), room="evictor")
        self.policies[document.name] = document
        self.tell(Arrived(self.at, document, POLICY.at(room="evictor", name=document.name).subject))

    @rule()
    def policy_goes(self) -> None:
        for name in [*self.policies]:
            del self.policies[name]
            self.tell(Gone(self.at, POLICY, POLICY.at(room="evictor", name=name).subject))

    @rule(orderly=st.booleans(), by=st.sampled_from([0.5, 5.0, 100.0]))
    def it_is_restarted(self, orderly: bool, by: float) -> None:
        if orderly:
            self.tell(Stopping(self.at))
        else:
            self.times.clear()  # killed, it does not know what it did since it wrote last
        self.at += by
        self.start()

    @invariant()
    def what_is_kept_can_be_read(self) -> None:
        memory = self.machine.memory
        assert msgspec.json.decode(msgspec.json.encode(memory), type=Memory) == memory

    def teardown(self) -> None:
        """When nothing goes wrong any more, nothing is left behind."""
        self.policy_goes()
        self.tell(Gone(self.at, TIDES, TIDES.at(pool="web").subject))
        self.tell(Gone(self.at, ADVICE, "n1"))
        self.tell(Gone(self.at, HEADROOM, "n1"))
        self.at += Settings().request_patience
        for _ in range(40):
            self.plain_report(9 * GIB, 0)
            self.the_bus_answers_all()
        memory = self.machine.memory
        assert not any(sent.until for sent in memory.sent.values()), f"awaited for ever: {memory.sent}"
        assert not memory.closed
        assert self.closing is None or self.closing.until <= self.at, "the node is closed"
        assert not any(held.risen for holds in memory.holds.values() for held in holds.values())
        here = [placement.workload for placement in self.here.values()]
        if guests := [one for one in here if may_leave(one) and minimum(one) == 0]:
            self.at += 400.0
            before = len(self.commands)
            for _ in range(30):
                self.plain_report(0, 5 * GIB)
                self.the_bus_answers_all()
            assert len(self.commands) > before, f"nobody helps, though {len(guests)} could"


def round_trip(message: Any) -> Any:
    decoded = msgspec.json.decode(msgspec.json.encode(message), type=type(message))
    assert decoded == message
    return decoded


TestHostile = Hostile.TestCase
TestHostile.settings = limits(stateful_step_count=40)
