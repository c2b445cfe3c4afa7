"""Scheduling pods with cards: decisions per second on 1,213 GPU nodes, and how much of the cards is allocated in the end.

One run of the exam of openb.py (all of it: `python -m tests.bench openb`): the scheduler with the plugin as it comes, on
an empty cluster that fills up. Every decision is counted from the shape of the pod to the columns brought up to date,
those that find nothing included. The list with models tells four times as many shapes apart.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import numpy as np

from neap.scheduler.core.pods.pod import pod_of
from tests.bench import openb
from tests.bench.measure import Row
from tests.bench.openb_trace import FOLDER, arrivals, mix_of, published, read_jobs, read_nodes

SEED: Final = 42
GOAL: Final = 3_000.0


def rows() -> Iterator[Row]:
    if not FOLDER.is_dir():
        yield Row(name="scheduler: 1,213 GPU nodes", value=0, unit="decisions/s", note=f"not measured: no {FOLDER}")
        return
    for trace, what, goal in (("default", "fragmentation", GOAL), ("gpuspec10", "fragmentation by model", None)):
        live, total = openb.Live(openb.ours(trace), SEED, mix_of(trace)), int(read_nodes().cards.sum())
        jobs = arrivals(read_jobs(trace), total, np.random.default_rng(SEED))
        pods = [pod_of(openb.workload_of(job, number)) for number, job in enumerate(jobs)]
        began = time.process_time()
        found = [live.cycle.decide(pod).placement is not None for pod in pods]
        seconds = time.process_time() - began
        yield Row(name=f"scheduler: 1,213 GPU nodes, {what}", value=len(pods) / seconds, unit="decisions/s",
                  at_least=goal, note=f"{np.mean(found):.0%} of {len(pods):,} found a node")  # fmt: skip
        allocated = 100 * sum(job.milli for job, placed in zip(jobs, found, strict=True) if placed) / total
        yield Row(name=f"openb {trace}, one seed: cards allocated in the end", value=allocated, unit="%",
                  rival="published FGD", rival_value=float(published()[trace, "FGD", "allocation_pct"][130]))  # fmt: skip
