"""The owners of a day: online services with over-sized requests, and a daemon per node. Pure.

A service's demand is one real day of a real cluster's CPU use, moved by up to `shift` and scaled so that its peak
is `peak_low`…`peak_high` of the request: people size requests for a peak they rarely see. All services of one source
live through the same of its days, so that the tide of that day stays visible in the sum. How many replicas there are
follows from the wanted day average:

    R    = Σ weight × peak share × mean(curve) / max(curve)                 mean use per requested core
    fill = (online × T − U) / R, kept within fill_low…fill_high of T        cores requested by services
    T = all usable cores, U = cores used by daemons and GPU pods

Source: `online` 0.25 is near the 20…23 % that Katalyst's authors report as their daily average before colocation
(KubeCon/CNCF talks); Autopilot (EuroSys 2020) reports 46 % slack for limits set by hand. Service names, service
times and weights are ours.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, MEMORY
from neap.common.model.workload import Container, Workload
from neap.common.units import MIB, Bytes, Cores, MilliCores, Ratio, Seconds
from neap.virtual.behaviour import Curves, write
from neap.virtual.parts import MachineShape, Submission, bytes_per_core, identity
from neap.virtual.settings import DaySettings

P99_OF_SERVICE: Final = math.log(100)  # p99 of an exponential service time over its mean, 4.6
PATIENT: Final = 5.0  # a service promises so many times what its slowest 1 % need when alone
OBJECTIVE: Final = PATIENT * P99_OF_SERVICE
MEMORY_SHARE: Final[Ratio] = 0.35  # of a core's part of the poorer machines' memory, per requested core
MEMORY_USED: Final[Ratio] = 0.7  # of the memory request is touched
NOISE: Final[Ratio] = 0.05
DAEMON_CPU: Final[MilliCores] = 250
DAEMON_USE: Final[Cores] = 0.1
DAEMON_MEMORY: Final[Bytes] = 64 * MIB
OWNER_PRIORITY: Final = 1000
DAEMON_PRIORITY: Final = 2000


@dataclass(frozen=True)
class Template:
    """One kind of online service; `cpu` is the request of one replica."""

    namespace: str
    name: str
    cpu: MilliCores
    mean: Seconds
    weight: float
    source: str = "ali2018"
    qos: QosClass = QosClass.SHARED


TEMPLATES: Final = (
    Template("ads", "bidder", 2000, 0.004, 0.07, "google2019", QosClass.DEDICATED),
    Template("search", "index", 4000, 0.010, 0.08, "google2019", QosClass.DEDICATED),
    Template("account", "login", 1000, 0.005, 0.05),
    Template("ads", "auction", 2000, 0.009, 0.08),
    Template("feed", "ranking", 4000, 0.016, 0.12),
    Template("feed", "timeline", 3000, 0.010, 0.12),
    Template("media", "thumbnail", 2000, 0.020, 0.08, "google2019"),
    Template("search", "query", 4000, 0.014, 0.12),
    Template("search", "suggest", 1000, 0.004, 0.05),
    Template("shop", "cart", 2000, 0.008, 0.08),
    Template("shop", "catalog", 3000, 0.006, 0.09),
    Template("shop", "checkout", 1000, 0.012, 0.06, "google2019"),
)


@dataclass(frozen=True)
class Service:
    """One service of this day: its template, cut to the machines, with what the seed chose."""

    template: Template
    cpu: MilliCores
    peak: Ratio  # highest use over request
    curve: str
    shift: Seconds
    use: Ratio  # day average of use over request


def services(
    settings: DaySettings, curves: Curves, machines: Sequence[MachineShape], rng: random.Random
) -> list[Service]:
    """The services of a day; no replica asks for more than half of the smallest machine (whole cores if dedicated)."""
    half = max(250, min((machine.cores for machine in machines), default=1) * 500)
    sources = dict.fromkeys(template.source for template in TEMPLATES)
    days = {
        source: rng.choice([name for name in sorted(curves) if name.startswith(source + "/")]) for source in sources
    }
    chosen = []
    for template in TEMPLATES:
        cpu = min(template.cpu, half)
        if template.qos == QosClass.DEDICATED:
            cpu = max(1000, cpu // 1000 * 1000)
        peak = round(rng.uniform(settings.peak_low, settings.peak_high), 3)
        curve = days[template.source]
        points = curves[curve]
        use = peak * sum(points) / len(points) / max(points)
        shift = float(round(rng.uniform(-settings.shift, settings.shift)))
        chosen.append(Service(template, cpu, peak, curve, shift, use))
    return chosen


def requested(
    settings: DaySettings, chosen: Sequence[Service], total: Cores, others: MilliCores, used: Cores
) -> MilliCores:
    """Milli-cores the services together may request; formula in the module docstring."""
    per_core = sum(s.template.weight * s.use for s in chosen) / sum(s.template.weight for s in chosen)
    wanted = (settings.online * total - used) / per_core * 1000
    least, most = (share * total * 1000 - others for share in (settings.fill_low, settings.fill_high))
    return int(max(0.0, min(most, max(least, wanted))))


def replicas(chosen: Sequence[Service], budget: MilliCores) -> list[int]:
    """Replicas per service: always one more for whoever is furthest below its weight, while it fits the budget.

    Source: D'Hondt's method of highest averages.
    """
    counts = [0] * len(chosen)
    while True:
        fitting = [i for i, service in enumerate(chosen) if service.cpu <= budget]
        if not fitting:
            return counts
        next_one = min(fitting, key=lambda i: ((counts[i] + 1) * chosen[i].cpu / chosen[i].template.weight, i))
        counts[next_one] += 1
        budget -= chosen[next_one].cpu


def daemons(machines: Sequence[MachineShape], seed: int) -> list[Submission]:
    """One small system pod per node; the scheduler says where, like for everything else."""
    size = {CPU: DAEMON_CPU, MEMORY: DAEMON_MEMORY}
    behaviour = write("steady", memory=DAEMON_MEMORY // 2, use=DAEMON_USE)
    return [
        Submission(
            0.0,
            Workload(
                uid=identity(seed, "system", f"node-agent-{index}"),
                namespace="system",
                name=f"node-agent-{index}",
                qos=QosClass.SYSTEM,
                containers=(Container(name="agent", requests=size),),
                priority=DAEMON_PRIORITY,
                owner="DaemonSet/node-agent",
                labels={"app": "node-agent"},
                annotations=behaviour,
            ),
        )
        for index in range(len(machines))
    ]


def online(
    settings: DaySettings, chosen: Sequence[Service], counts: Sequence[int], machines: Sequence[MachineShape], seed: int
) -> list[Submission]:
    """The services' pods, submitted one after the other within `settle`; replicas share their load nearly evenly."""
    rng = random.Random(f"{seed}.replicas")
    room = bytes_per_core(machines) * MEMORY_SHARE
    pairs = [(service, index) for service, count in zip(chosen, counts, strict=True) for index in range(count)]
    submissions = []
    for order, (service, index) in enumerate(pairs):
        peak = round(service.cpu / 1000 * service.peak * rng.uniform(0.96, 1.04), 4)
        memory = max(16 * MIB, int(room * service.cpu / 1000) // MIB * MIB)
        at = settings.settle * order // len(pairs)
        submissions.append(Submission(float(at), _replica(service, index, peak, memory, seed)))
    return submissions


def _replica(service: Service, index: int, peak: Cores, memory: Bytes, seed: int) -> Workload:
    template = service.template
    size = {CPU: service.cpu, MEMORY: memory}
    dedicated = template.qos == QosClass.DEDICATED
    name = f"{template.name}-{index}"
    return Workload(
        uid=identity(seed, template.namespace, name),
        namespace=template.namespace,
        name=name,
        qos=template.qos,
        containers=(Container(name=template.name, requests=size, limits=size if dedicated else {MEMORY: memory}),),
        priority=OWNER_PRIORITY,
        owner=f"Deployment/{template.name}",
        labels={"app": template.name},
        annotations=write(
            "curve",
            memory=int(memory * MEMORY_USED),
            curve=service.curve,
            peak=peak,
            shift=service.shift,
            noise=NOISE,
            mean=template.mean,
            objective=round(template.mean * OBJECTIVE, 3),
        ),
    )
