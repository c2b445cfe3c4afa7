"""Guests and GPU pods of a day, from rows of a real cluster's trace. Pure.

Real: which pods follow which (a run of consecutive rows, its first row chosen by the seed, wrapping around), their
CPU, memory and GPU shapes, their durations within bounds, and the rhythm of their arrivals. Changed, because the
trace's own clock is far too sparse for a load test (at most 56 pods at once in 149 days): gaps between rows are cut
to `LONGEST_GAP` and then scaled so that the run fills the day, and as many rows are taken as the wanted load needs:

    Σ cores × duration  ≥  guest_load × (T × length − owners' core-seconds)          CPU-only rows, as guests
    Σ share × duration  ≥  gpu_load × cards × length                                 rows with one GPU

Source: openb trace, Weng et al., USENIX ATC 2023 (see examples/README.md).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, GPU_CORE, GPU_MEMORY, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.workload import Container, Workload
from neap.common.units import GIB, HOUR, MIB, Bytes, MilliCores, Ratio, Seconds
from neap.virtual.behaviour import write
from neap.virtual.parts import MachineShape, Submission, bytes_per_core, identity
from neap.virtual.settings import DaySettings
from neap.virtual.slices import TraceRow

LONGEST_GAP: Final[Seconds] = 6 * HOUR
MOST_ROWS: Final = 20_000  # of one day, whatever load is wanted
MEMORY_SHARE: Final[Ratio] = 0.35  # guests' memory per core, of the poorer machines' memory per core
MEMORY_USED: Final[Ratio] = 0.8
CARD_MEMORY_MIB: Final = 16 * 1024  # the trace names no GPU memory: shares are of a card of this size
LEAST_GPU_MIB: Final = 256
GPU_CPU_DIVISOR: Final = 8  # GPU pods' CPU is cut to an eighth, within the two bounds below
GPU_CPU: Final[tuple[MilliCores, MilliCores]] = (250, 1000)
GPU_PRIORITY: Final = 500
GUEST_PRIORITY: Final = 0


@dataclass(frozen=True)
class Arrival:
    """One row of the run: when it arrives, as the how manieth, and how long it runs on what it asks for."""

    at: Seconds
    order: int
    row: TraceRow
    duration: Seconds


def run_of(
    rows: Sequence[TraceRow],
    settings: DaySettings,
    *,
    size: Callable[[TraceRow], float],
    wanted: float,
    rng: random.Random,
) -> Iterator[Arrival]:
    """Consecutive rows until Σ size × duration reaches `wanted`, spread over the day after `guests_from`."""
    if not rows or wanted <= 0:
        return
    first, clock = rng.randrange(len(rows)), 0.0
    taken: list[tuple[TraceRow, Seconds, Seconds]] = []
    while wanted > 0 and len(taken) < MOST_ROWS:
        row = rows[(first + len(taken)) % len(rows)]
        duration = min(settings.guest_longest, max(settings.guest_shortest, row.duration))
        if taken:
            clock += min(LONGEST_GAP, max(0.0, row.created - taken[-1][0].created))
        wanted -= size(row) * duration
        taken.append((row, duration, clock))
    open_for = max(0.0, settings.length - settings.guests_from)
    for order, (row, duration, since) in enumerate(taken):
        spread = open_for * (since / clock if clock else order / len(taken))
        at = settings.guests_from + max(0.0, spread - settings.guest_backlog)
        yield Arrival(float(round(at)), order, row, duration)


def guests(
    settings: DaySettings,
    rows: Sequence[TraceRow],
    machines: Sequence[MachineShape],
    *,
    core_seconds: float,
    seed: int,
) -> list[Submission]:
    """All CPU-only rows of the run, whatever class they had, as reclaimed_cores; wide ones split into equal parts."""
    only_cpu = [row for row in rows if row.gpu_milli == 0]
    scale = memory_scale(only_cpu, machines)
    run = run_of(
        only_cpu, settings, size=lambda row: row.cpu / 1000, wanted=core_seconds, rng=random.Random(f"{seed}.guests")
    )
    submissions = []
    for arrival in run:
        parts = max(1, math.ceil(arrival.row.cpu / 1000 / settings.guest_cores))
        submissions += [Submission(arrival.at, _guest(arrival, part, parts, scale, seed)) for part in range(parts)]
    return submissions


def memory_scale(rows: Sequence[TraceRow], machines: Sequence[MachineShape]) -> Ratio:
    """Factor on the trace's memory: its pods ask about 3.6 GiB per core, more than many of our machines have."""
    asked = sum(row.memory for row in rows) / max(1, sum(row.cpu for row in rows)) * 1000
    return min(1.0, MEMORY_SHARE * bytes_per_core(machines) / max(1.0, asked))


def _guest(arrival: Arrival, part: int, parts: int, scale: Ratio, seed: int) -> Workload:
    row = arrival.row
    cpu = row.cpu // parts
    memory = max(64 * MIB, int(row.memory * scale / parts) // MIB * MIB)
    job = f"{row.name}-{arrival.order}"
    name = f"{job}-{part}" if parts > 1 else job
    return Workload(
        uid=identity(seed, "batch", name),
        namespace="batch",
        name=name,
        qos=QosClass.RECLAIMED,
        containers=(Container(name="work", requests={RECLAIMED_CPU: cpu, RECLAIMED_MEMORY: memory}),),
        priority=GUEST_PRIORITY,
        owner=f"Job/{job}",
        labels={"app": "batch"},
        annotations=write(
            "work", memory=int(memory * MEMORY_USED), width=cpu / 1000, work=round(cpu / 1000 * arrival.duration, 3)
        ),
    )


def gpu_pods(
    settings: DaySettings, rows: Sequence[TraceRow], machines: Sequence[MachineShape], seed: int
) -> list[Submission]:
    """Rows with one GPU, shares and whole cards, as shared_cores; none when no machine has a card."""
    cards = sum(machine.cards for machine in machines)
    run = run_of(
        [row for row in rows if row.gpu_milli > 0],
        settings,
        size=lambda row: gpu_percent(row) / 100,
        wanted=settings.gpu_load * cards * settings.length,
        rng=random.Random(f"{seed}.gpu"),
    )
    return [Submission(arrival.at, _gpu_pod(arrival, seed)) for arrival in run]


def gpu_percent(row: TraceRow) -> int:
    """Whole percents of a card, rounded up: 10 milli are one percent."""
    return min(100, math.ceil(row.gpu_milli / 10))


def _gpu_pod(arrival: Arrival, seed: int) -> Workload:
    row, percent = arrival.row, gpu_percent(arrival.row)
    cpu = min(GPU_CPU[1], max(GPU_CPU[0], row.cpu // GPU_CPU_DIVISOR))
    memory: Bytes = GIB // 4
    size = {CPU: cpu, MEMORY: memory, GPU_CORE: percent}
    if percent < 100:
        size[GPU_MEMORY] = max(LEAST_GPU_MIB, CARD_MEMORY_MIB * percent // 100)
    name = f"{row.name}-{arrival.order}"
    return Workload(
        uid=identity(seed, "gpu", name),
        namespace="gpu",
        name=name,
        qos=QosClass.SHARED,
        containers=(Container(name="train", requests=size),),
        priority=GPU_PRIORITY,
        owner=f"Job/{name}",
        labels={"app": "gpu"},
        annotations=write("work", memory=memory // 2, width=cpu / 1000, work=round(cpu / 1000 * arrival.duration, 3)),
    )
