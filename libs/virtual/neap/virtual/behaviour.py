"""What a workload does once it runs, carried as annotations and read back by the virtual kubelet.

    virtual.neap.io/demand      curve | work | steady | idle
      curve:  curve="ali2018/3" (source/day)  peak="2.6" (cores at the curve's highest point)  shift="5400" (seconds)
              noise="0.05" (ratio)
      work:   work="16200" (core-seconds)  width="6" (cores); the pod ends when the work is done
      steady: use="0.1" (cores, for ever)
              bursts: burst="1.5" (times more)  burst-every="1200" (s, on average)  burst-length="60" (s)
      work:   checkpoint="3600" (core-seconds after which what was done is saved: an eviction loses no more)
    virtual.neap.io/memory      bytes it touches; it leaks `leak` bytes/s on top, up to `ceiling` bytes (0: none)
    virtual.neap.io/press       a noisy neighbour: see pod.VirtualContainer
    virtual.neap.io/mean        seconds a request takes on one core; with
    virtual.neap.io/objective   seconds its p99 may take: makes the pod an online service

A workload without a demand gets a plausible one: half its CPU request for ever, or, as a guest, ten minutes of its
request. They speak of the first container; further containers idle.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from neap.common.errors import InputError
from neap.common.model.qos import KubeQos, QosClass
from neap.common.model.resource import CPU, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.workload import Workload
from neap.common.units import DAY, MINUTE, Bytes, Cores, Ratio, Seconds
from neap.virtual.pod import Curve, Demand, Idle, Memory, ServiceModel, VirtualContainer, VirtualPod, Work

PREFIX: Final = "virtual.neap.io/"
UNTOLD_GUEST: Final[Seconds] = 10 * MINUTE
UNTOLD_SHARE: Final[Ratio] = 0.5
LARGEST: Final = 1e15
LEAST_WORK: Final = 0.001  # core-seconds
BURST_EVERY: Final[Seconds] = 20 * MINUTE
BURST_LENGTH: Final[Seconds] = MINUTE

Curves = Mapping[str, tuple[Ratio, ...]]


@dataclass(frozen=True)
class Origin:
    """When curves begin, how far apart their points are, and the seed of the noise."""

    start: Seconds
    step: Seconds
    seed: int


def write(demand: str, *, memory: Bytes, **numbers: str | float) -> dict[str, str]:
    """Annotations as text; floats in their shortest exact form, so the same day is the same bytes."""
    told = {"demand": demand, "memory": memory, **numbers}
    return {PREFIX + key: value if isinstance(value, str) else f"{value:.12g}" for key, value in told.items()}


def kube_qos(workload: Workload) -> KubeQos:
    """The class Kubernetes derives from CPU and memory requests and limits.

    Source: Kubernetes documentation, "Pod Quality of Service Classes".
    """
    kinds = (CPU, MEMORY)
    told = [c for c in workload.containers if any(kind in c.requests or kind in c.limits for kind in kinds)]
    if not told:
        return KubeQos.BEST_EFFORT
    exact = (
        c.limits.get(kind, 0) > 0 and c.requests.get(kind) == c.limits[kind]
        for c in workload.containers
        for kind in kinds
    )
    return KubeQos.GUARANTEED if all(exact) else KubeQos.BURSTABLE


def runtime_id(workload: Workload, container: str) -> str:
    """64 hex digits, as a container runtime names a container; one per container and attempt."""
    return hashlib.sha256(f"{workload.uid}.{workload.attempt}.{container}".encode()).hexdigest()


def virtual_pod(workload: Workload, curves: Curves, origin: Origin, saved: float = 0.0) -> VirtualPod:
    """The pod a virtual host starts for this workload; `saved`: core-seconds an earlier attempt did and kept.

    Raises:
        InputError: an annotation does not hold; names pod, key and value.
    """
    told = _Told(workload)
    first, *others = workload.containers
    containers = [
        VirtualContainer(
            id=runtime_id(workload, first.name),
            requests=first.requests,
            limits=first.limits,
            demand=_demand(workload, told, curves, origin, saved),
            memory=_memory(workload, told),
            press=told.number("press", 0.0, most=100.0),
        )
    ]
    containers += [
        VirtualContainer(id=runtime_id(workload, c.name), requests=c.requests, limits=c.limits) for c in others
    ]
    service = _service(told) if is_service(workload) else None
    return VirtualPod(uid=workload.uid, qos=kube_qos(workload), containers=tuple(containers), service=service)


class _Told:
    """Annotations of one workload, read with bounds."""

    def __init__(self, workload: Workload) -> None:
        self._key, self._annotations = workload.key, workload.annotations

    def text(self, name: str) -> str | None:
        return self._annotations.get(PREFIX + name)

    def wrong(self, name: str, why: str) -> InputError:
        return InputError(f"pod {self._key}: annotation {PREFIX}{name}={(self.text(name) or '')[:64]!r}: {why}")

    def number(self, name: str, default: float | None = None, *, least: float = 0.0, most: float = LARGEST) -> float:
        text = self.text(name)
        if text is None:
            if default is None:
                raise self.wrong(name, "missing")
            return default
        try:
            value = float(text)
        except ValueError:
            raise self.wrong(name, "not a number") from None
        if not (math.isfinite(value) and least <= value <= most):
            raise self.wrong(name, f"must be within {least:g} and {most:g}")
        return value


def _demand(workload: Workload, told: _Told, curves: Curves, origin: Origin, saved: float) -> Demand:
    match told.text("demand"):
        case "curve":
            name = told.text("curve") or ""
            if not (points := curves.get(name)):
                raise told.wrong("curve", f"no such curve (known: {', '.join(sorted(curves)[:20])})")
            return Curve(
                points=points,
                step=origin.step,
                scale=told.number("peak", most=4096) / (max(points) or 1.0),
                origin=origin.start + told.number("shift", 0.0, least=-DAY, most=DAY),
                noise=told.number("noise", 0.0, most=1.0),
                seed=_seed(origin.seed, workload.uid),
                burst=told.number("burst", 0.0, most=100.0),
                burst_every=told.number("burst-every", BURST_EVERY, least=1.0),
                burst_length=told.number("burst-length", BURST_LENGTH, least=1.0),
            )
        case "work":
            width = told.number("width", least=0.001, most=4096)
            return Work(core_seconds=max(LEAST_WORK, told.number("work", least=LEAST_WORK) - saved), width=width)
        case "steady":
            return _steady(told.number("use", most=4096))
        case "idle":
            return Idle()
        case None:
            return _untold(workload)
    raise told.wrong("demand", "must be curve, work, steady or idle")


def saved(workload: Workload, done: float) -> float:
    """Core-seconds of `done` that the next attempt need not do again: whole checkpoints."""
    every = _Told(workload).number("checkpoint", 0.0)
    return done // every * every if every > 0 else 0.0


def is_service(workload: Workload) -> bool:
    """Whether it answers requests and promises how soon."""
    told = _Told(workload)
    return told.text("mean") is not None or told.text("objective") is not None


def _untold(workload: Workload) -> Demand:
    requests = workload.requests
    if workload.qos == QosClass.RECLAIMED:
        width: Cores = max(requests.get(RECLAIMED_CPU, 0) / 1000, 0.1)
        return Work(core_seconds=width * UNTOLD_GUEST, width=width)
    return _steady(requests.get(CPU, 0) / 1000 * UNTOLD_SHARE)


def _steady(cores: Cores) -> Demand:
    return Curve(points=(1.0,), step=DAY, scale=cores)


def _memory(workload: Workload, told: _Told) -> Memory:
    requests = workload.requests
    untold = (requests.get(MEMORY, 0) or requests.get(RECLAIMED_MEMORY, 0)) * UNTOLD_SHARE
    return Memory(
        start=int(told.number("memory", untold)),
        per_second=told.number("leak", 0.0),
        ceiling=int(told.number("ceiling", 0.0)),
    )


def _service(told: _Told) -> ServiceModel:
    return ServiceModel(mean=told.number("mean", least=1e-6, most=60.0), objective=told.number("objective", least=1e-6))


def _seed(seed: int, uid: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}.{uid}".encode()).digest()[:4], "big")
