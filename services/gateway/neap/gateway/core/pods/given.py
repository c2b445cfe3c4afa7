"""What a pod really has, whatever its spec wishes: the size that its kubelet has given it.

    size of a container = max(what it has, what was allocated to it)        per kind (cpu, memory) that its spec names
    it has              status.resources
    was allocated       status.allocatedResources; while PodResizeInProgress and nothing is pending, the spec

So more counts as soon as the kubelet has set it aside, less only once the container really has less, and what is deferred
or infeasible changes nothing. A kubelet that does not say what a container has says nothing of the pod's size. A sidecar
of which it does not say so has what its spec asks.
Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers"; KEP 1287, "Scheduler".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final, TypeAlias

import msgspec

from neap.common.errors import InputError
from neap.common.kube.objects import Amounts, ContainerStatus, Pod, PodContainer, ResourceAmounts
from neap.common.model.resource import CPU, MEMORY, parse_amount
from neap.common.model.workload import Container

KINDS: Final = (CPU, MEMORY)
SIDECAR: Final = "Always"  # restart policy of an init container that stays
Sized: TypeAlias = tuple[str | int | None, ...]  # name; requests, limits by KINDS

_replace: Final = msgspec.structs.replace


def given(pod: Pod) -> Pod | None:
    """The pod as if its spec asked for what it really has; None: its kubelet does not say."""
    conditions = {one.type for one in pod.status.conditions or () if one.status == "True"}
    moves = "PodResizeInProgress" in conditions and "PodResizePending" not in conditions
    containers = _all(pod.spec.containers, pod.status.container_statuses, moves=moves)
    if containers is None:
        return None
    initial = pod.spec.init_containers
    if initial and any(one.restart_policy == SIDECAR for one in initial):
        sidecars = [one for one in initial if one.restart_policy == SIDECAR]
        has = {one.name: _all([one], pod.status.init_container_statuses, moves=moves) or (one,) for one in sidecars}
        initial = tuple(has.get(one.name, (one,))[0] for one in initial)
    return _replace(pod, spec=_replace(pod.spec, containers=containers, init_containers=initial))


def mark_of_pod(pod: Pod) -> int:
    """Equal for pods, and workloads, of one size."""
    sidecars = (one for one in pod.spec.init_containers or () if one.restart_policy == SIDECAR)
    return hash(tuple(_read(one) for one in (*pod.spec.containers, *sidecars))) or 1


def mark_of(containers: Iterable[Container]) -> int:
    """Of a workload's containers; never 0, which says that nothing is known."""
    return hash(tuple(_sized(one) for one in containers)) or 1


def _sized(one: Container) -> Sized:
    asks, most = one.requests.get, one.limits.get
    return one.name, asks(CPU), asks(MEMORY), most(CPU), most(MEMORY)


def _read(one: PodContainer) -> Sized:
    limits, requests = one.resources.limits or {}, one.resources.requests or {}
    cpu, memory = (_units(kind, limits.get(kind)) for kind in KINDS)
    asks = (_units(kind, requests.get(kind, limits.get(kind))) for kind in KINDS)
    return one.name, *asks, cpu, memory


def _all(
    containers: Sequence[PodContainer], statuses: Sequence[ContainerStatus] | None, *, moves: bool
) -> tuple[PodContainer, ...] | None:
    shown = {one.name: one for one in statuses or ()}
    found = []
    for one in containers:
        status = shown.get(one.name)
        if status is None or status.resources is None:
            return None
        asks, most, has = one.resources.requests, one.resources.limits, status.resources
        requests = _most(asks, has.requests, status.allocated_resources, asks if moves else None)
        limits = _most(most, has.limits, most if moves else None)
        if requests is None or limits is None:
            return None
        found.append(_replace(one, resources=ResourceAmounts(requests=requests, limits=limits)))
    return tuple(found)


def _most(asked: Amounts | None, has: Amounts | None, *others: Amounts | None) -> Amounts | None:
    """Per kind the most that is said of it; None: nothing is said of one that is asked for, or it cannot be read."""
    found = dict(asked or {})
    for kind in KINDS:
        if kind not in found:
            continue
        said = [one[kind] for one in (has, *others) if one and kind in one]
        if not has or kind not in has or any(_units(kind, text) is None for text in said):
            return None
        found[kind] = max(said, key=lambda text: _units(kind, text) or 0)
    return found


def _units(kind: str, text: str | float | None) -> int | None:
    return None if text is None else _whole(kind, str(text))


@lru_cache(maxsize=4096)
def _whole(kind: str, text: str) -> int | None:
    try:
        return parse_amount(kind, text)[1]
    except InputError:
        return None
