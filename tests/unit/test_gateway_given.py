"""What a pod really has, as its kubelet shows it; and that this is told once, whoever resized it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from neap.common.contract.catalogue import PLACEMENTS
from neap.common.kube.objects import PODS, Pod
from neap.common.model.lifecycle import Started, Submitted
from neap.common.model.placement import Checkpoint
from neap.common.runtime.machine import Arrived, Heard, Synced
from neap.gateway.core.asking.lease import Follows, Leads
from neap.gateway.core.hearing.reflector import Complete, Seen
from neap.gateway.core.machine import NEEDED, STORED, GatewayMachine
from neap.gateway.core.pods.facts import occupant_of
from neap.gateway.core.pods.given import given, mark_of, mark_of_pod
from neap.gateway.settings import Settings
from tests.unit.gateway_world import World, a_pod

UID = "uid-cart-1"
ONE, TWO, HALF = ({"cpu": cpu, "memory": "1Gi"} for cpu in ("1", "2", "500m"))


def running(
    has: dict[str, str] | None,
    *,
    wishes: dict[str, str] = ONE,
    allocated: dict[str, str] | None = None,
    conditions: tuple[tuple[str, str], ...] = (),
    node: str = "n1",
    **more: Any,
) -> Pod:
    """A pod as its kubelet shows it; `conditions`: type and reason."""
    status: dict[str, Any] = {"name": "main", "containerID": "containerd://4f3a"}
    status |= {"resources": {"requests": has}} if has is not None else {}
    status |= {"allocatedResources": allocated} if allocated is not None else {}
    found = a_pod(node=node, phase="Running", requests=wishes, **more)
    shown = {
        "phase": "Running",
        "containerStatuses": [status],
        "conditions": [{"type": type, "status": "True", "reason": reason} for type, reason in conditions],
    }
    return msgspec.structs.replace(found, status=msgspec.convert(shown, type(found.status)))


def cpu(pod: Pod) -> int | None:
    has = given(pod)
    return occupant_of(has, "").requests["cpu"] if has is not None else None


@pytest.mark.parametrize(
    ("pod", "millicores"),
    [
        (running(ONE), 1000),
        (running(None), None),  # its kubelet does not say
        (running({}), None),  # nor of this kind, as of a container that starts anew
        (running({"cpu": "??", "memory": "1Gi"}), None),
        (running(ONE, wishes=TWO), 1000),  # asked for, and not seen by the kubelet yet
        (running(ONE, wishes=TWO, conditions=(("PodResizePending", "Deferred"),)), 1000),
        (running(ONE, wishes=TWO, conditions=(("PodResizePending", "Infeasible"),)), 1000),
        (running(ONE, wishes=TWO, allocated=TWO), 2000),  # set aside for it
        (running(ONE, wishes=TWO, conditions=(("PodResizeInProgress", ""),)), 2000),  # the same, of newer kubelets
        (running(ONE, wishes=TWO, conditions=(("PodResizeInProgress", ""), ("PodResizePending", "Deferred"))), 1000),
        (running(TWO, wishes=TWO), 2000),
        (running(ONE, wishes=HALF, allocated=HALF), 1000),  # it still has it
        (running(ONE, wishes=HALF, conditions=(("PodResizeInProgress", ""),)), 1000),
        (running(HALF, wishes=HALF, allocated=HALF), 500),
        (running({"cpu": "1000m", "memory": "1024Mi"}), 1000),
    ],
)  # fmt: skip
def test_more_counts_once_it_is_set_aside_and_less_once_it_is_given_up(pod: Pod, millicores: int | None) -> None:
    assert cpu(pod) == millicores


def test_a_mark_is_the_same_for_what_the_api_shows_and_what_a_ledger_holds() -> None:
    sidecar = {"name": "mesh", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m"}}}
    once = {"name": "setup", "resources": {"requests": {"cpu": "4"}}}
    limited = {"name": "main", "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}
    for pod in (a_pod(), a_pod(requests={}), a_pod(initContainers=[once, sidecar]), a_pod(containers=[limited])):
        assert mark_of_pod(pod) == mark_of(occupant_of(pod, "").containers)
    assert mark_of_pod(a_pod(requests=ONE)) == mark_of_pod(a_pod(requests={"cpu": "1000m", "memory": "1024Mi"}))
    assert mark_of_pod(a_pod(requests=ONE)) != mark_of_pod(a_pod(requests=TWO))
    assert mark_of_pod(a_pod(requests={"cpu": "0"})) != mark_of_pod(a_pod(requests={}))


def test_a_sidecar_has_what_its_kubelet_shows_or_what_it_asks() -> None:
    mesh = {"name": "mesh", "restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}}
    once = {"name": "setup", "resources": {"requests": {"cpu": "100m"}}}
    pod = running(ONE, initContainers=[once, mesh])
    assert cpu(pod) == 1300
    shown = msgspec.convert([{"name": "mesh", "resources": {"requests": {"cpu": "100m"}}}], type=Any)
    status = msgspec.convert({**msgspec.to_builtins(pod.status), "initContainerStatuses": shown}, type(pod.status))
    assert cpu(msgspec.structs.replace(pod, status=status)) == 1100


def test_overhead_is_on_top_of_the_size_that_it_has() -> None:
    has = given(running(TWO, wishes=TWO, overhead={"cpu": "250m"}))
    assert has is not None
    assert occupant_of(has, "").requests["cpu"] == 2250


# -- told ----------------------------------------------------------------------------------------------------------


def stage(pod: Pod | None = None, settings: Settings | None = None) -> World:
    """A pod of another scheduler that runs on n1, as it was submitted, and is on its ledger."""
    world = World(settings) if settings is not None else World()
    world.see(pod if pod is not None else running(ONE, scheduler="default-scheduler"))
    world.place()
    world.hear()
    return world


def sizes(world: World) -> list[int]:
    """Every size that was told after the first, by its millicores."""
    return [event.size.containers[0].requests["cpu"] for event in world.told(Started) if event.size is not None]


def resized(has: dict[str, str], wishes: dict[str, str] | None = None, **more: Any) -> Pod:
    return running(has, wishes=has if wishes is None else wishes, scheduler="default-scheduler", **more)


def charge(world: World) -> None:
    """The scheduler writes what was told last to the ledger."""
    [last] = [event.size for event in world.told(Started) if event.size is not None][-1:]
    before = world.held[UID]
    workload = before.placement.workload.sized(last)
    placement = msgspec.structs.replace(before.placement, workload=workload, charged=workload.requests)
    world.held[UID] = msgspec.structs.replace(before, placement=placement)
    world.ledger.append(world.held[UID])
    world.hear()


def test_a_new_size_is_told_once_whoever_asked_for_it() -> None:
    world = stage()
    assert (len(world.told(Started)), sizes(world)) == (1, [])
    world.see(resized(ONE, wishes=TWO))  # kubectl patch --subresource resize
    assert sizes(world) == []
    world.see(resized(TWO))
    world.see(resized(TWO, metadata={"labels": {"a": "b"}}))
    assert sizes(world) == [2000]
    [_, told] = world.told(Started)
    assert (told.node, told.attempt, told.containers) == ("n1", 1, {"main": "4f3a"})
    charge(world)
    world.see(resized(TWO))
    world.pass_time(60.0)
    assert sizes(world) == [2000]


def test_what_is_deferred_or_infeasible_is_not_told() -> None:
    world = stage()
    for reason in ("Deferred", "Infeasible"):
        world.see(resized(ONE, wishes=TWO, conditions=(("PodResizePending", reason),)))
    world.see(resized({}, wishes=TWO))  # its container starts anew
    assert sizes(world) == []


def test_back_and_forth_at_one_moment_is_told_in_words_that_differ() -> None:
    world = stage()
    for has in (TWO, ONE, TWO, HALF):
        world.see(resized(has))
    assert sizes(world) == [2000, 1000, 2000, 500]
    ats = [event.at for event in world.told(Started) if event.size is not None]
    assert ats == sorted(set(ats))
    said = len(world.said)
    while world.heard_life < len(world.life):
        world.hear(1)  # its own words come back, the older ones first
        world.see(resized(HALF))
    assert len(world.said) == said


def test_who_is_adopted_is_told_with_what_it_has_and_not_with_what_it_wishes() -> None:
    world = stage(running(ONE, wishes=TWO, scheduler="default-scheduler"))
    [found] = world.told(Submitted)
    assert found.workload.requests["cpu"] == 1000
    world.see(resized(TWO))
    assert sizes(world) == [2000]


def test_who_was_placed_by_neap_and_changed_before_it_ran_is_told_with_its_start() -> None:
    world = World()
    world.see(a_pod())
    world.place(0)
    world.hear()
    world.act()
    node = world.held[UID].node
    world.see(running(TWO, wishes=TWO, node=node))
    [started] = world.told(Started)
    assert started.size.containers[0].requests["cpu"] == 2000
    assert started.containers == {"main": "4f3a"}


@pytest.mark.parametrize("charged_first", [True, False])
def test_a_restart_after_it_was_told_tells_nothing_again(charged_first: bool) -> None:
    world = stage()
    world.see(resized(TWO))
    if charged_first:
        charge(world)
    world.start()
    world.see(resized(TWO))
    assert sizes(world) == [2000]


def test_what_was_resized_while_no_gateway_ran_is_told_by_the_next_one() -> None:
    world = stage()
    world.see(resized(TWO))
    charge(world)
    world.api[UID] = resized(HALF)
    world.start()
    assert sizes(world) == [2000, 500]


def test_a_pod_that_is_listed_before_all_that_was_told_is_read_is_not_forgotten() -> None:
    world = stage()
    world.see(resized(TWO))
    charge(world)
    back = world.api[UID] = resized(ONE)  # while no gateway ran
    world.machine, world.heard_life, world.heard_ledger = GatewayMachine(world.settings), 0, 0
    world.hear(1)  # it was submitted with one core, as it has now
    world.tell(Heard(world.at, Seen(PODS, back, "1")), *(Heard(world.at, Complete(kind, "1", 1)) for kind in NEEDED))
    world.hear()
    world.tell(*(Synced(world.at, channel) for channel in STORED))
    assert sizes(world) == [2000, 1000]
    assert not world.machine._settler.pods[UID].kept


def test_the_ledger_alone_tells_what_is_charged_where_the_stream_remembers_nothing() -> None:
    world = stage()
    world.see(resized(TWO))
    charge(world)
    world.life.clear()
    world.start()
    assert sizes(world) == []
    world.see(resized(HALF))
    assert sizes(world) == [500]
    assert world.told(Submitted) == []


def test_a_checkpoint_tells_what_is_charged_too() -> None:
    world = stage()
    placement = world.held[UID].placement
    workload = occupant_of(resized(TWO), "")
    placement = msgspec.structs.replace(placement, workload=workload, charged=workload.requests)
    world.life.clear()
    world.start()
    entry = Checkpoint(at=world.at, source="scheduler", node="n1", placements=(placement,))
    world.tell(Arrived(world.at, entry, PLACEMENTS.at(node="n1").subject, 9))
    world.see(resized(TWO))
    assert sizes(world) == []


def test_who_follows_tells_nothing_and_who_leads_from_here_on_tells_what_nobody_told() -> None:
    world = stage(settings=Settings())
    world.tell(Heard(world.at, Leads(1, world.at + 60.0)))
    world.place()
    world.hear()
    world.tell(Heard(world.at, Follows("another")))
    world.see(resized(TWO))
    assert sizes(world) == []
    world.tell(Heard(world.at, Leads(2, world.at + 60.0)))
    assert sizes(world) == [2000]
