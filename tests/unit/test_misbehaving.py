"""Workloads that burst, leak, press on their neighbours or save checkpoints: what they do, and that none does unasked."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from neap.common.errors import InputError
from neap.common.model.qos import KubeQos, QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.workload import Container, Workload
from neap.common.units import GIB, HOUR, MIB, MINUTE
from neap.virtual.behaviour import PREFIX, Origin, saved, virtual_pod
from neap.virtual.dayfile import parse_day
from neap.virtual.demand import offered
from neap.virtual.kernel import VirtualHost
from neap.virtual.mix import mixed
from neap.virtual.parts import Submission
from neap.virtual.pod import Curve, EndReason, Memory, ServiceModel, VirtualContainer, VirtualPod, Work
from neap.virtual.settings import DaySettings
from tests.unit.test_virtual_host import MACHINE

ORIGIN = Origin(0.0, 300.0, 1)


def a_guest(**told: str) -> Workload:
    size = {RECLAIMED_CPU: 2000, RECLAIMED_MEMORY: GIB}
    notes = {"demand": "work", "work": "7200", "width": "2", "memory": str(512 * MIB), **told}
    return Workload(
        uid="g", namespace="batch", name="g", qos=QosClass.RECLAIMED, owner="Job/g",
        containers=(Container(name="c", requests=size),), annotations={PREFIX + key: text for key, text in notes.items()},
    )  # fmt: skip


# -- bursts ----------------------------------------------------------------------------------------------------------


def test_a_bursting_service_needs_more_in_one_minute_of_twenty_and_the_same_ones_again() -> None:
    calm = Curve(points=(1.0,), step=300.0, scale=2.0, seed=7)
    wild = replace(calm, burst=1.5)
    minutes = [offered(wild, at * MINUTE + 30) for at in range(10_000)]
    assert set(minutes) == {2.0, 5.0}
    assert 400 <= minutes.count(5.0) <= 600, "500 expected"
    assert minutes == [offered(wild, at * MINUTE + 1) for at in range(10_000)]
    assert minutes != [offered(replace(wild, seed=8), at * MINUTE) for at in range(10_000)]
    assert {offered(calm, at * MINUTE) for at in range(100)} == {2.0}


# -- leaks -----------------------------------------------------------------------------------------------------------


def test_a_leaking_guest_grows_until_the_kernel_kills_it() -> None:
    pod = virtual_pod(a_guest(work="1e9", leak=str(MIB)), {}, ORIGIN)
    assert pod.containers[0].memory == Memory(start=512 * MIB, per_second=MIB)
    limited = replace(pod, containers=(replace(pod.containers[0], limits={MEMORY: GIB}),), qos=KubeQos.BURSTABLE)
    host = VirtualHost(MACHINE, node="n")
    host.start(limited)
    assert host.advance(500.0) == []
    (finished,) = host.advance(600.0)
    assert finished.reason is EndReason.OOM
    assert virtual_pod(a_guest(leak="5", ceiling="7"), {}, ORIGIN).containers[0].memory.ceiling == 7


# -- neighbours ------------------------------------------------------------------------------------------------------


def beside(press: float) -> tuple[float, float]:
    """(CPU, p99) of a service on 4 CPUs, two of which a guest keeps busy."""
    host = VirtualHost(MACHINE, node="n")
    owner = VirtualContainer(id="o", demand=Curve(points=(1.0,), step=300.0, scale=1.0))
    host.start(
        VirtualPod(uid="s", qos=KubeQos.BURSTABLE, containers=(owner,), service=ServiceModel(mean=0.01, objective=1))
    )
    guest = VirtualContainer(id="c", demand=Work(core_seconds=1e9, width=2), press=press)
    host.start(VirtualPod(uid="g", qos=KubeQos.BEST_EFFORT, containers=(guest,)))
    host.advance(120.0)
    (seen,) = host.observe().services
    return seen.used, seen.p99


def test_who_presses_slows_the_requests_of_services_on_its_machine() -> None:
    alone, pressed = beside(0.0), beside(0.5)
    assert alone[0] == 1.0
    assert pressed[0] == pytest.approx(1.25), "half of the CPUs are under pressure of 0.5"
    assert pressed[1] > 1.2 * alone[1]


# -- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("done", "kept"), [(0.0, 0.0), (599.0, 0.0), (600.0, 600.0), (1900.0, 1800.0)])
def test_an_eviction_loses_no_more_than_a_checkpoint(done: float, kept: float) -> None:
    guest = a_guest(checkpoint="600")
    assert saved(guest, done) == kept
    assert saved(a_guest(), done) == 0.0
    (container,) = virtual_pod(guest, {}, ORIGIN, kept).containers
    assert container.demand == Work(core_seconds=7200 - kept, width=2)
    (container,) = virtual_pod(guest, {}, ORIGIN, 7200.0).containers
    assert isinstance(container.demand, Work)
    assert container.demand.core_seconds > 0, "it ends, and says so"


# -- days ------------------------------------------------------------------------------------------------------------

CURVES = {"ali2018/1": (1.0, 2.0)}
OWNER: dict[str, Any] = {"name": "cart", "cpu": "2", "memory": "1Gi"}
GUEST: dict[str, Any] = {"name": "index", "cpu": "2", "memory": "1Gi", "duration": "1h"}


def notes(kind: str, line: dict[str, Any]) -> dict[str, str]:
    day = parse_day({kind: [line]}, "day.toml", start=0.0, curves=CURVES, seed=1)
    return {key.removeprefix(PREFIX): text for key, text in day.submissions[0].workload.annotations.items()}


def test_a_day_file_says_who_misbehaves_and_by_default_nobody_does() -> None:
    plain = notes("owner", OWNER), notes("guest", GUEST)
    for told in plain:
        assert not told.keys() & {"burst", "burst-every", "burst-length", "leak", "press", "checkpoint"}
    assert notes("owner", OWNER | {"burst": 1.5, "leak": "360Mi"}) == plain[0] | {
        "burst": "1.5", "burst-every": "1200", "burst-length": "60", "leak": f"{360 * MIB / HOUR:.12g}",
    }  # fmt: skip
    assert notes("guest", GUEST | {"press": 0.5, "checkpoint": "10m"}) == plain[1] | {
        "press": "0.5",
        "checkpoint": "1200",
    }
    with pytest.raises(InputError, match=r"owner\[0\].burst_length: must be within 1 s and burst_every"):
        notes("owner", OWNER | {"burst": 1.0, "burst_length": "1h"})


def submissions(count: int) -> list[Submission]:
    owner = {PREFIX + key: text for key, text in notes("owner", OWNER).items()}
    service = Workload(
        uid="s", namespace="shop", name="s", qos=QosClass.SHARED, annotations=owner,
        containers=(Container(name="c", requests={CPU: 2000, MEMORY: GIB}),),
    )  # fmt: skip
    return [
        Submission(0.0, replace(one, owner=f"{kind}/{index}"))
        for index in range(count)
        for kind, one in (("Job", a_guest()), ("Deployment", service))
    ]


@pytest.mark.parametrize("what", ["bursting", "leaking", "pressing", "saving"])
def test_a_share_of_a_generated_day_misbehaves_and_none_of_it_by_default(what: str) -> None:
    day = submissions(200)
    assert mixed(day, DaySettings(), 1) == day
    some, more = (mixed(day, DaySettings(**{what: share}), 1) for share in (0.2, 0.4))
    chosen, others = ({one.workload.owner for one in drawn if one not in day} for drawn in (some, more))
    total = 400 if what == "leaking" else 200
    assert 0.1 * total < len(chosen) < 0.3 * total
    assert chosen < others
    assert chosen != {one.workload.owner for one in mixed(day, DaySettings(**{what: 0.2}), 2) if one not in day}
    kinds = {owner.partition("/")[0] for owner in chosen}
    assert kinds == {"bursting": {"Deployment"}, "leaking": {"Deployment", "Job"}}.get(what, {"Job"})
