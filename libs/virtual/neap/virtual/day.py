"""A day for a virtual cluster: real curves for the owners, real rows of a trace for guests and GPU pods. Pure.

Same settings, slices, machines and seed: the same day, to the last byte. Who owns what part of it: owners.py,
arrivals.py; a day written by hand: dayfile.py.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from neap.common.model.resource import CPU, GPU_CORE
from neap.common.units import Cores, format_duration
from neap.virtual.arrivals import CARD_MEMORY_MIB, gpu_pods, guests
from neap.virtual.mix import mixed
from neap.virtual.owners import DAEMON_CPU, DAEMON_USE, PATIENT, Service, daemons, online, replicas, requested, services
from neap.virtual.parts import LEFT_OUT, Day, MachineShape, Submission
from neap.virtual.settings import DaySettings
from neap.virtual.slices import Slices


def make_day(settings: DaySettings, slices: Slices, machines: Sequence[MachineShape], seed: int) -> Day:
    """The day of these machines and this seed.

    Laws: deterministic; every request fits some machine; CPU requests of owners are at most `fill_high` of all cores.
    """
    total = float(sum(machine.cores for machine in machines))
    system = daemons(machines, seed)
    gpus = [s for s in gpu_pods(settings, slices.rows, machines, seed) if s.at < settings.length]
    gpu_cores = _gpu_cores(gpus, settings)
    used = len(system) * DAEMON_USE + gpu_cores
    chosen = services(settings, slices.curves, machines, random.Random(f"{seed}.services"))
    others = len(system) * DAEMON_CPU + int(gpu_cores * 1000)
    counts = replicas(chosen, requested(settings, chosen, total, others, used))
    owners = online(settings, chosen, counts, machines, seed)
    average = used + sum(
        count * service.cpu / 1000 * service.use for service, count in zip(chosen, counts, strict=True)
    )
    left = max(0.0, total - average) * settings.length
    lent = guests(settings, slices.rows, machines, core_seconds=settings.guest_load * left, seed=seed)
    submissions = mixed((*system, *owners, *gpus, *lent), settings, seed)
    submissions.sort(key=lambda s: (s.at, s.workload.uid))
    day = Day(
        name=f"generated, seed {seed}",
        start=settings.start,
        length=settings.length,
        submissions=tuple(s for s in submissions if s.at < settings.length),
    )
    return _told(day, machines, chosen, average, settings)


def describe(day: Day) -> str:
    """A few lines for people: what is real in this day, what is modelled."""
    return "\n".join(day.story)


def _gpu_cores(gpus: Sequence[Submission], settings: DaySettings) -> Cores:
    """CPU the GPU pods use on average: their work, all done, over the day."""
    seconds = sum(float(s.workload.annotations["virtual.neap.io/work"]) for s in gpus)
    return seconds / settings.length


def _told(
    day: Day, machines: Sequence[MachineShape], chosen: Sequence[Service], average: Cores, settings: DaySettings
) -> Day:
    total = sum(machine.cores for machine in machines)
    asks = [s.workload.requests for s in day.submissions]
    lent = sum(float(s.workload.annotations["virtual.neap.io/work"]) for s in day.submissions if s.is_guest)
    left = max(1.0, (total - average) * day.length)
    gpus = sum(1 for ask in asks if GPU_CORE in ask)
    steady = sum(ask.get(CPU, 0) for ask in asks if GPU_CORE not in ask) / 1000
    number = sum(s.is_guest for s in day.submissions)
    curves = ", ".join(sorted({service.curve for service in chosen}))
    cards = sum(machine.cards for machine in machines)
    shortest, longest = format_duration(settings.guest_shortest), format_duration(settings.guest_longest)
    peak = f"{settings.peak_low:.0%}-{settings.peak_high:.0%}"
    text = f"""\
{format_duration(day.length)} on {len(machines)} virtual nodes, {total} cores, {cards} cards ({day.name})
real: the owners' load curves (CPU use of two production clusters, a day each: {curves})
real: order, shape, duration and rhythm of guests and GPU pods (rows of the openb trace)
modelled: services, latencies, requests ({steady / total:.0%} of all cores, of which a service uses {peak} at its peak)
modelled: latency is M/M/c over the cores a service could get; it promises a p99 of {PATIENT:g} times what it has alone
the owners use {average / total:.1%} of all cores over the day; guests bring {lent / left:.2f} times what they leave
guests: {number}, at most {settings.guest_cores:g} cores, which they use whole (wider rows are split, memory is scaled)
guests: arrivals are compressed into the day, durations kept within {shortest} and {longest}
GPU pods: {gpus}; shares rounded up to whole percents, memory modelled (share of {CARD_MEMORY_MIB // 1024} GiB), CPU cut to 1/8"""
    return Day(day.name, day.start, day.length, day.submissions, (*text.splitlines(), *LEFT_OUT))
