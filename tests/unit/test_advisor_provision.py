"""How many CPUs owners need: Katalyst's acceptance cases A1 to A3 as tables, and what ours adds.

Where ours differs on purpose: ON_PURPOSE, by case.
"""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from neap.advisor.core import indicators
from neap.advisor.core.machine import AdvisorMachine
from neap.advisor.core.pid import Knob, Terms, step
from neap.advisor.core.pid import Memory as Loop
from neap.advisor.core.policy import PodView, Policy, PoolView, Requirement
from neap.advisor.core.waking import STORED
from neap.advisor.plugins import provision_canonical as canonical
from neap.advisor.plugins import provision_dynamic_quota as quota
from neap.advisor.plugins import provision_fixed as fixed
from neap.advisor.plugins import provision_none as none
from neap.advisor.plugins import provision_rama as rama
from neap.advisor.settings import Settings
from neap.common.model.advice import NodeAdvice
from neap.common.model.placement import Checkpoint, Placement
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU
from neap.common.model.topology import NodeTopology, NumaNode, Zone, ZoneKind
from neap.common.model.usage import ContainerUsage, NodeUsage, Stall
from neap.common.model.workload import Container, Workload
from neap.common.runtime.machine import Arrived, Put, Synced
from neap.common.runtime.plugins import load

ON_PURPOSE: Final = {
    "A1 brake": "one derivative gain instead of two by sign, and on the measurement: a new target is no jump",
    "A1 total": "what was asked and not given is forgotten when the error turns or ends: Katalyst winds up to a step",
    "A1 floor": "rama in Katalyst fails without valid indicators and falls back; ours answers the estimate, and says so",
    "A2 load": "load1 and load5 are no lower bound of ours: PSI and run delay say the same of the pod alone",
    "A2 nothing": "nothing measured and no request is 0 and not 4 CPUs: pool_minimum keeps a pool of nobody's wish at 1",
    "A2 exclusive": "the whole NUMA node is given by the ledger's binding (core/binding), not by the estimate",
    "A3 error": "without the guests' usage the pool is held, and says why; Katalyst answers with an error and no knob",
    "A3 unbound": "a pool bound to no node is estimated as usual; Katalyst emits no knob",
    "A3 knob": "the requirement is what the quota leaves, and guests get CPUs: a quota throttles in the middle of a lock",
}

# -- A1 --------------------------------------------------------------------------------------------------------------

KNOB = Knob(now=40, low=4, high=90, scale=90)
RISEN = 46.23832462503951  # 40 + 0.1 × 90 × ln 2


def a1(reading: float, target: float, above: float, below: float) -> float:
    return step(reading, target, KNOB, Terms(rise=0.1, fall=0.01, above=above, below=below), Loop())[0].knob


@pytest.mark.parametrize(
    ("readings", "above", "below", "cores"),
    [
        ([(800, 400)], 0.05, 0.8, RISEN),
        ([(4, 400)], 0.05, 0.8, 38.0),
        ([(401, 400)], 0.05, 0.8, 40.0),
        ([(2, 1), (4, 40)], 0.02, 0.95, RISEN),
    ],
    ids=["A1 share_ramp_up", "A1 share_ramp_down", "A1 share_deadband", "A1 dedicated_numa_exclusive"],
)
def test_a1_pid(readings: list[tuple[float, float]], above: float, below: float, cores: float) -> None:
    assert max(a1(reading, target, above, below) for reading, target in readings) == cores


def test_a_new_target_is_no_jump_of_the_brake() -> None:
    terms = Terms(brake=1.0)
    _, memory = step(400, 400, KNOB, terms, Loop())
    plain = step(400, 300, KNOB, msgspec.structs.replace(terms, brake=0), memory)[0]
    assert step(400, 300, KNOB, terms, memory)[0] == plain


def test_small_steps_add_up_until_a_whole_cpu_moves() -> None:
    knob, memory = Knob(now=4, low=1, high=8, scale=4), Loop()
    asked = []
    for _ in range(6):
        said, memory = step(0.9, 1.0, knob, Terms(fall=0.5, below=0.05), memory)
        asked.append(said.knob)
    assert asked[0] > 3.5
    assert asked[-1] < 3.0
    assert asked == sorted(asked, reverse=True)


# -- A2 --------------------------------------------------------------------------------------------------------------

PLAIN = canonical.Settings(growth=0, margin=0, reserve=0)


@pytest.mark.parametrize(
    ("pod", "cores"),
    [
        (PodView(uid="a", request=4, now=2, smooth=2, peak=2), 4.0),
        (PodView(uid="a", request=4, now=2, smooth=2, peak=2, settled=True), 2.5),
        (PodView(uid="a", request=4), 4.0),
        (PodView(uid="a", request=0), 0.0),
    ],
    ids=["A2 ramping up", "A2 1.25 x usage", "A2 no metrics", "A2 nothing"],
)
def test_a2_canonical(pod: PodView, cores: float) -> None:
    assert canonical.advise(PoolView(name="share", pods=(pod,)), PLAIN, canonical.START)[0].cores == cores


# -- A3 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "cores"), [(4, 2.8), (44, 10.8)], ids=["A3 4 CPUs lent", "A3 none lent, 44 CPUs on the node"]
)
def test_a3_quota(room: float, cores: float) -> None:
    assert quota.quota(room, 0.4, 2.0, quota.Settings()) == pytest.approx(cores)


def bound(lent: int = 4, guests: float | None = 2.0, node: int | None = 0, now: float = 15.6) -> Requirement:
    """A pool on a NUMA node of 44 CPUs, used to 40 % by owners and guests."""
    pod = PodView(uid="a", request=30, now=now, smooth=now, peak=now, settled=True)
    view = PoolView(name="share", pods=(pod,), held=40, node=node, most=44, lent=lent, guests=guests)
    return quota.advise(view, quota.Settings(), None)[0]


@pytest.mark.parametrize(
    ("lent", "guests", "node", "cores"),
    [(4, 2.0, 0, 44 - 2.8), (0, 2.0, 0, 44 - 10.8), (4, None, 0, 40.0), (4, 2.0, None, 1.25 * 15.6 * 1.35)],
    ids=["A3 4 CPUs lent", "A3 none lent", "A3 guests not measured", "A3 bound to no node"],
)
def test_a3_owners_need_what_the_quota_leaves(lent: int, guests: float | None, node: int | None, cores: float) -> None:
    assert bound(lent, guests, node).cores == pytest.approx(cores)


def test_the_quota_tells_its_numbers() -> None:
    assert bound().reason == "41.2 = 44 − 2.8 for guests: NUMA node 0 is used to 40% for 60%"
    assert bound(guests=None).reason == "40.0 = 40 held: not all usage of NUMA node 0 is known"


# -- rama ------------------------------------------------------------------------------------------------------------


def serving(
    now: float | None, held: int, *, stall: float | None = None, wait: float | None = None, fresh: bool = True,
    targets: dict[str, float] | None = None,
) -> PoolView:  # fmt: skip
    """A settled pod that asked for 16 CPUs."""
    used = 0.0 if now is None else now
    pod = PodView(
        uid="a", request=16, now=now, smooth=used * 0.5, peak=used * 0.5, stall=stall, settled=True,
        signals={} if wait is None else {indicators.WAIT: wait},
    )  # fmt: skip
    return PoolView(name="share", pods=(pod,), held=held, fresh=fresh, targets=targets or {})


def advised(view: PoolView, memory: rama.Memory = rama.START) -> tuple[Requirement, rama.Memory]:
    return rama.advise(view, rama.Settings(), memory)


def test_the_most_conservative_indicator_wins_and_is_named() -> None:
    need, _ = advised(serving(7.8, 20, stall=0.20, wait=0.0))
    assert need.cores == pytest.approx(24.0)
    assert need.reason == "24.0 = 20 held + 4.0: stall 0.2 for 0.1"


def test_a_pool_shrinks_only_when_every_indicator_is_below_its_band() -> None:
    _, memory = advised(serving(6.5, 20, stall=0.0))
    need, _ = advised(serving(6.5, 20, stall=0.0), memory)
    assert need.cores < 20
    need, _ = advised(serving(6.5, 20, stall=0.05), memory)
    assert need.cores == 20
    assert need.reason == "20.0 = 20 held: stall 0.05 for 0.1"


def test_inside_every_band_the_pool_keeps_exactly_what_it_holds() -> None:
    memory = rama.START
    for _ in range(20):
        need, memory = advised(serving(13.0, 20, stall=0.1, wait=0.1), memory)
        assert need.cores == 20


def test_an_indicator_that_vanished_holds_the_pool_and_says_so() -> None:
    _, memory = advised(serving(13.0, 20, stall=0.0))
    for _ in range(5):
        need, memory = advised(serving(6.5, 20), memory)
        assert need.cores == 20
    assert need.reason == "20.0 = 20 held: stall is not measured"


def test_one_this_machine_never_had_abstains() -> None:
    need, _ = advised(serving(6.5, 20))
    assert need.cores < 20
    assert "usage 0.325 for 0.65" in need.reason


def test_without_any_reading_the_estimate_decides() -> None:
    need, _ = advised(serving(None, 20))
    assert need.cores >= 16
    assert "because no indicator speaks" in need.reason


@pytest.mark.parametrize("reading", [float("nan"), float("inf"), -1.0])
def test_a_reading_that_is_none_never_makes_the_pool_smaller(reading: float) -> None:
    _, memory = advised(serving(13.0, 20, stall=0.01))
    need, _ = advised(serving(6.5, 20, stall=reading), memory)
    assert need.cores == 20


def test_a_full_pool_gets_what_was_asked_for_at_once() -> None:
    need, _ = advised(serving(5.5, 6, stall=0.0))
    assert need.cores == 16
    assert "5.5 of 6 CPUs in use, so requests count" in need.reason


def test_a_target_stated_for_the_service_beats_the_settings() -> None:
    need, _ = advised(serving(13.0, 20, stall=0.0, targets={indicators.USAGE: 0.4}))
    assert need.cores > 20
    assert "usage 0.65 for 0.4" in need.reason


def test_without_a_new_report_nothing_is_learned() -> None:
    first, memory = advised(serving(6.5, 20, stall=0.0))
    again, later = advised(serving(6.5, 20, stall=0.0, fresh=False), memory)
    assert again.cores == first.cores
    assert later == memory


def test_its_memory_survives_the_wire() -> None:
    _, memory = advised(serving(6.5, 20, stall=0.3, wait=0.01))
    assert msgspec.json.decode(msgspec.json.encode(memory), type=rama.Memory) == memory


@pytest.mark.parametrize("demand", [0.3, 1.0, 2.7, 5.0, 9.9, 17.3, 40.0])
@pytest.mark.parametrize("start", [2, 8, 64])
def test_a_pool_of_whole_cores_comes_to_rest_at_its_target(demand: float, start: int) -> None:
    held, memory, sizes = start, rama.START, []
    for _ in range(120):
        now = min(demand, float(held))
        pod = PodView(uid="a", request=demand * 1.5, now=now, smooth=now, peak=now, settled=True)
        need, memory = advised(PoolView(name="share", pods=(pod,), held=held, most=96), memory)
        held = max(2, -(-int(-(-need.cores // 1)) // 2) * 2)
        sizes.append(held)
    assert len(set(sizes[-60:])) == 1, sizes
    assert demand / held <= 0.65 * 1.03
    assert held <= 2 or demand / (held - 2) > 0.65 * 0.5, "twice what it needs"


# -- fixed, none -----------------------------------------------------------------------------------------------------


def test_fixed_and_none() -> None:
    pods = (
        PodView(uid="a", request=4, now=1, smooth=1, peak=1, settled=True),
        PodView(uid="b", request=2, limit=5, now=6, smooth=6, peak=6, settled=True),
    )
    view = PoolView(name="share", pods=pods)
    assert fixed.advise(view, fixed.Settings(), None)[0].cores == 6
    assert fixed.advise(view, fixed.Settings(share=0.5), None)[0].reason == "3.0 = 6.0 requested x 0.50"
    assert fixed.advise(view, fixed.Settings(cores=9), None)[0].cores == 9
    assert none.advise(view, none.Settings(), None)[0].reason == "9.0 kept, 6.0 requested"


# -- through the machine ---------------------------------------------------------------------------------------------


def test_reports_reach_the_indicators_and_the_reason_reaches_the_advice() -> None:
    """CPI and run delay, where a reporter has them, and a target set by policy."""
    tune = {"provision_rama.cpi": 1.0, "provision_rama.usage": 0.0}
    settings = Settings(node="n", period=1.0, provision="provision_rama", tune=tune)
    machine = AdvisorMachine(settings, load("neap.advisor.plugins", Policy))
    zone = Zone(kind=ZoneKind.MACHINE, index=0, cpus="0-31")
    numa = (NumaNode(index=0, cpus="0-31", memory=1 << 36),)
    topology = NodeTopology(at=0, source="r", node="n", machine=zone, numa=numa)
    containers = (Container(name="c", requests={CPU: 12_000}),)
    workload = Workload(uid="a", namespace="x", name="a", qos=QosClass.SHARED, containers=containers)
    checkpoint = Checkpoint(
        at=0, source="s", node="n", placements=(Placement(workload=workload, charged={CPU: 12_000}),)
    )
    machine.handle(Arrived(0.0, topology))
    machine.handle(Arrived(0.0, checkpoint))
    for channel in STORED:
        machine.handle(Synced(0.0, channel))
    reasons = []
    for second in range(1, 12):
        one = ContainerUsage(
            uid="a", container="c", cgroup="c", cpu=4.0, cpi=2.0, run_delay=0.1, cpu_stall=Stall(some=0.02)
        )
        report = NodeUsage(at=second, source="r", node="n", seq=second, period=1.0, cpu=4.0, containers=(one,))
        for said in machine.handle(Arrived(float(second), report)):
            if isinstance(said, Put) and isinstance(said.value, NodeAdvice):
                reasons += [pool.reason for pool in said.value.pools if pool.name == "share"]
        machine.validate()
    assert any("cpi 2 for 1" in reason for reason in reasons), reasons
