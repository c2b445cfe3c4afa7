"""Laws of what an advisor remembers: restarted at any moment it decides as if it had never been away."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.mind import Mind
from neap.advisor.core.pod import Track
from neap.advisor.core.remembered import Memory, memory_of, track_again
from neap.advisor.core.waking import STORED, AskReports
from neap.advisor.settings import Settings
from neap.common.contract.catalogue import MEMORY
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.memory import RoomMemory
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released
from neap.common.model.policy import PolicyDocument
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.runtime.machine import Arrived, Done, Event, Failed, Put, Stopping, Synced
from neap.common.runtime.remembering import Keep, RememberingMachine, TellMemory
from neap.common.units import GIB
from neap.reporter.core.recent import Recent
from tests.unit.policy_world import a_policy, an_edition
from tests.unit.test_advisor_node import POLICIES, a_pod, a_topology
from tests.unit.test_advisor_numa import ALONE, BOUND

PODS = (a_pod("a", cores=6), a_pod("b", cores=4, pool="batch"), a_pod("d", QosClass.DEDICATED), a_pod("g", QosClass.RECLAIMED))  # fmt: skip
PROVISIONS = st.sampled_from(["provision_canonical", "provision_rama", "provision_dynamic_quota"])
cores = st.floats(0, 8)
reports = st.fixed_dictionaries(
    {"cpu": st.tuples(cores, cores, cores, cores), "stall": st.sampled_from([0.0, 0.05, 0.5]), "full": st.booleans(),
     "comes": st.sampled_from(["in time", "in time", "never", "twice"])}
)  # fmt: skip


def a_container(uid: str, cpu: float, stall: float) -> ContainerUsage:
    waits = Stall(some=stall, some60=stall)
    return ContainerUsage(
        uid=uid, container="c", cgroup=f"kubepods/{'besteffort/' if uid == 'g' else ''}{uid}", cpu=cpu, memory=2 * GIB,
        working_set=GIB, file_cache=GIB // 2, memory_nodes=(GIB, GIB), cpu_stall=waits, memory_stall=waits,
        run_delay=stall * cpu,
    )  # fmt: skip


class Life:
    """One advisor, the clock around it, and what is stored.

    `recent`: the reporter remembers what it said. `delay`: of every message. `every`: a memory is written.
    """

    def __init__(
        self,
        settings: Settings,
        pods: tuple[Placement, ...] = PODS,
        *,
        recent: bool = False,
        delay: float = 0.0,
        every: float = 5.0,
        policy: PolicyDocument | None = None,
    ) -> None:
        self.settings, self.at, self.full = settings, 0.0, 0
        self.pods, self.delay, self.every, self.policy = pods, delay, every, policy
        self.recent = Recent() if recent else None
        self.entries: list[LedgerEntry] = [Checkpoint(at=0, source="s", node="n", placements=pods)]
        self.headroom: Headroom | None = None
        self.advice: NodeAdvice | None = None
        self.stored: RoomMemory | None = None
        self.told: list[TellMemory] = []
        self.late: NodeUsage | None = None  # said once more after the next one
        self.begin()

    def begin(self) -> None:
        """A new life, which reads what is stored."""
        self.machine = AdvisorMachine(self.settings, POLICIES)
        self.outer = RememberingMachine(self.machine, self.machine, Memory, Keep("advisor", "n", self.every, 60.0))
        for seq, entry in enumerate(self.entries, 1):
            self.tell(Arrived(self.at, entry, seq=seq))
        for message in (self.policy, a_topology(), self.advice, self.headroom, self.stored):
            if message is not None:
                self.tell(Arrived(self.at, message))
        for channel in (*STORED, MEMORY):
            self.tell(Synced(self.at, channel))

    def tell(self, event: Event) -> None:
        for said in self.outer.handle(event):
            match said:
                case AskReports() as asked if self.recent is not None:
                    self.tell(Done(self.at, asked, self.recent.answer(asked.request)))
                case AskReports() as asked:
                    self.tell(Failed(self.at, asked, "nobody serves it", may_retry=False))
                case Put(value=Headroom() as headroom):
                    self.headroom = msgspec.json.decode(msgspec.json.encode(headroom), type=Headroom)
                case Put(value=NodeAdvice() as advice):
                    self.advice = msgspec.json.decode(msgspec.json.encode(advice), type=NodeAdvice)
                case Put(value=RoomMemory() as memory):
                    self.stored = msgspec.json.decode(msgspec.json.encode(memory), type=RoomMemory)
                case TellMemory():
                    self.told.append(said)
        self.outer.validate()

    def live(self, happened: dict[str, Any], *, heard: bool = True) -> None:
        """A report, or a pod that comes or goes; not `heard`: nobody is there to hear it."""
        tell, self.tell = self.tell, self.tell if heard else lambda _: None  # type: ignore[method-assign]
        if "cpu" in happened:
            self.report(happened)
        else:
            self.at += 0.25
            self.entries.append(self.entry(happened["entry"], self.pods[happened["pod"]], happened["cores"]))
            self.tell(Arrived(self.at + self.delay, self.entries[-1], seq=len(self.entries)))
        self.tell = tell  # type: ignore[method-assign]

    def entry(self, what: str, pod: Placement, cores: int) -> LedgerEntry:
        """It leaves, comes (once more), or is resized in place."""
        if what == "leaves":
            return Released(at=self.at, source="s", node="n", uid=pod.workload.uid, reason="")
        if what == "resized":
            (container,) = pod.workload.containers
            sized = replace(container, requests=container.requests | {CPU: 1000 * cores})
            pod = replace(pod, workload=replace(pod.workload, containers=(sized,)), charged=sized.requests)
        return Placed(at=self.at, source="s", node="n", placement=pod, reason="")

    def report(self, report: dict[str, Any]) -> None:
        self.at += 1.0
        seq = int(self.at)
        short = self.full and not report["full"]
        self.full = self.full if short else seq
        containers = tuple(
            a_container(uid, cpu, report["stall"])
            for uid, cpu in zip((pod.workload.uid for pod in self.pods), report["cpu"], strict=True)
        )[: 2 if short else 4]  # fmt: skip
        usage = NodeUsage(
            at=self.at, source="r", node="n", seq=seq, period=1.0, cpu=12.0, memory_available=90 * GIB,
            containers=containers, since=self.full if short else 0,
        )  # fmt: skip
        if self.recent is not None:
            self.recent.add(usage)
        if report.get("comes") != "never":
            self.tell(Arrived(self.at + self.delay, usage))
        if report.get("comes") == "twice":
            self.late = usage
        elif self.late is not None:
            late, self.late = self.late, None
            self.tell(Arrived(self.at, late))

    @property
    def knows(self) -> Memory:
        """All it will ever decide and tell from; what is said again after a restart has another number."""
        return msgspec.structs.replace(self.machine.memory, seq=0)

    @property
    def decides_from(self) -> Memory:
        """Without when guests were told of a squeeze: one that nobody was there to tell of is told of later."""
        return msgspec.structs.replace(self.knows, told={})


def sizes(advice: NodeAdvice) -> dict[str, str]:
    """The sums beside them are those of the moment in which it was said."""
    return {pool.name: pool.cpus for pool in advice.pools}


@given(st.lists(reports, min_size=2, max_size=24), st.integers(1, 23), PROVISIONS, st.booleans())
def test_restarted_at_any_moment_it_knows_and_decides_the_same(
    story: list[dict[str, Any]], when: int, provision: str, isolate: bool
) -> None:
    settings = Settings(node="n", provision=provision, isolate=isolate, peak_seconds=8.0, peak_reports=8)
    steady, restarted = Life(settings), Life(settings)
    for number, report in enumerate(story):
        if number == when:
            restarted.tell(Stopping(restarted.at))
            restarted.begin()
        steady.report(report)
        restarted.report(report)
        assert restarted.knows == steady.knows
        if number > 0 and steady.advice is not None and restarted.advice is not None:
            assert sizes(restarted.advice) == sizes(steady.advice)
            assert restarted.advice.cgroups == steady.advice.cgroups


ALONE_ON_ONE = replace(PODS[2], workload=replace(PODS[2].workload, annotations=ALONE), numa=(1,))
BOUND_TO_ONE = replace(PODS[0], workload=replace(PODS[0].workload, annotations=BOUND), numa=(0,))
ROSTERS = st.sampled_from([PODS, (*PODS[:2], ALONE_ON_ONE, PODS[3]), (BOUND_TO_ONE, *PODS[1:])])
TUNED = a_policy("p", an_edition({"peak_seconds": 20.0, "provision": "provision_rama", "pod_margin": 0.5}))
LIVES = st.fixed_dictionaries(
    {"delay": st.sampled_from([0.0, 0.2]), "every": st.sampled_from([2.0, 5.0]),
     "policy": st.sampled_from([None, None, TUNED])}
)  # fmt: skip
yes_or_no = st.booleans()
TUNINGS = st.fixed_dictionaries(
    {"provision": PROVISIONS | st.sampled_from(["provision_profile", "provision_fixed", "provision_koordinator"]),
     "headroom": st.sampled_from(["headroom_canonical", "headroom_utilisation", "headroom_koordinator"]),
     "memory": st.sampled_from([Settings().memory, ("memory_guard", "memory_balance", "memory_offloading")]),
     "overlap": yes_or_no, "isolate": yes_or_no, "lend_alone": yes_or_no, "lend": st.sampled_from([True, True, False]),
     "peak_reports": st.sampled_from([1, 8]), "settle": st.sampled_from([1, 5]), "calm_rounds": st.sampled_from([1, 3]),
     "offer_drop": st.sampled_from([0.0075, 0.5])}
)  # fmt: skip
ENTRIES = st.fixed_dictionaries(
    {"entry": st.sampled_from(["leaves", "comes", "resized"]), "pod": st.integers(0, 3), "cores": st.integers(1, 8)}
)
HAPPENED = st.one_of(reports.map(lambda report: {**report, "comes": "in time"}), ENTRIES)


@given(st.lists(HAPPENED, min_size=2, max_size=30), st.integers(0, 29), st.integers(0, 4), TUNINGS, ROSTERS, LIVES)
def test_killed_at_any_moment_and_away_for_a_while_it_knows_and_decides_the_same(
    story: list[dict[str, Any]], when: int, away: int, tuning: dict[str, Any], pods: Any, lives: dict[str, Any]
) -> None:
    """What it has not written down the reporter and the ledger know; pods came, went and were resized in between.

    It cannot be the same, and is not asked for here, where something is not told with its time, or by another's clock:
    a policy, profile or topology that changed between the lives (what is missed is lived again by the new one); reports
    that were lost on the way, as who asks hears them; entries by a scheduler whose clock differs, which come in their
    order but at other moments; rounds without a report, of which one before the next report is lived again; who is
    suspected to disturb whom, as correlations begin anew.
    """
    settings = Settings(node="n", peak_seconds=0.0, **tuning)
    steady, killed = (Life(settings, pods, recent=True, **lives) for _ in range(2))
    for life in (steady, killed):
        for _ in range(6):  # until a memory was written
            life.report({"cpu": (5.0, 3.0, 1.0, 1.0), "stall": 0.0, "full": True})
    for number, happened in enumerate(story):
        steady.live(happened)
        if number == when + away:
            killed.live(happened, heard=False)
            killed.begin()
            assert [one.event for one in killed.told] == ["memory.recalled", "memory.relived"]
        else:
            killed.live(happened, heard=not when <= number < when + away)
        if not when <= number < when + away:
            assert killed.decides_from == steady.decides_from
            if steady.advice is not None and killed.advice is not None:
                assert sizes(killed.advice) == sizes(steady.advice)
                assert killed.advice.cgroups == steady.advice.cgroups


@given(st.lists(cores, max_size=40), st.lists(cores, max_size=40), st.integers(1, 20))
def test_the_stairs_of_a_window_have_its_maxima_now_and_later(
    before: list[float], after: list[float], window: int
) -> None:
    steady, again = Track(window), Track(window)
    steady.cpu.extend(before)
    (pod,) = memory_of(Mind(tracks={"a": steady}), seq=0, provision="").pods.values()
    track_again(again, msgspec.json.decode(msgspec.json.encode(pod), type=type(pod)))
    for amount in [*after, None]:
        assert max(again.cpu, default=None) == max(steady.cpu, default=None)
        if amount is not None:
            steady.cpu.append(amount)
            again.cpu.append(amount)


noise: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**60) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [*Memory.__struct_fields__, "nothing"]


@given(
    st.dictionaries(st.sampled_from(FIELDS), noise, min_size=1),
    st.lists(reports, min_size=1, max_size=4),
    st.sampled_from([1.0, 0.0, -1e9, 1e9]),
)
def test_a_memory_nobody_wrote_breaks_nothing_and_is_told_about(
    nonsense: dict[str, Any], story: list[dict[str, Any]], at: float
) -> None:
    """Whether it is understood or not: the laws of the cut hold, and no offer is more than there is."""
    life = Life(Settings(node="n"))
    life.report({"cpu": (5.0, 3.0, 1.0, 1.0), "stall": 0.0, "full": True})
    known = msgspec.to_builtins(life.machine.memory)
    life.stored = RoomMemory(at=at, source="x", node="n", room="advisor", what={**known, **nonsense})
    life.begin()
    assert life.told[0].event in ("memory.recalled", "memory.refused")
    assert {said.event for said in life.told[1:]} <= {"memory.gap"}
    assert abs(at) < 60 or life.told[0].event == "memory.refused"
    for report in [*story, {"cpu": (5.0, 3.0, 1.0, 1.0), "stall": 0.0, "full": True}]:
        life.report(report)
    assert life.advice is not None
    lending = life.machine.memory.lending
    assert lending is not None
    assert 0 <= lending.offer[RECLAIMED_CPU] <= 32_000
    assert 0 <= lending.offer[RECLAIMED_MEMORY] <= 128 * GIB
