"""Where a simulated day's CPU time goes, by room: `python -m tests.bench.day --hours 2 --nodes 24`.

The whole system runs in this process under virtual time (as `neap sim`), so the sum is what a day costs without NATS,
sockets and process switches. A room's part is the CPU time of its driver: machine, effects on the host, nothing of
the bus. The rest is the bus in memory and the loop. With --profile the dearest functions follow (and all of it is
slower).
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import sys
import time
from collections import Counter

from neap.common.runtime import driver
from neap.common.runtime.main import COLLECT_EVERY
from neap.common.testing.simloop import simulate
from neap.common.units import HOUR, MINUTE
from neap.virtual.pace import day_settings
from neap.virtual.simulation import ROOMS, Simulation
from neap.virtual.world import plan_nodes


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="tests.bench.day", description=__doc__)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--nodes", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--profile", action="store_true")
    asked = parser.parse_args(argv)
    driver.stopwatch = time.process_time  # type: ignore[attr-defined]  # CPU seconds: this machine may be busy
    simulation = Simulation(
        day_settings(nodes=asked.nodes, seed=asked.seed, length=asked.hours * HOUR), seed=asked.seed
    )
    gc.set_threshold(COLLECT_EVERY)
    began = time.process_time()
    plan_nodes(simulation.virtual)
    loaded = time.process_time()
    profile = cProfile.Profile() if asked.profile else None
    report = profile.runcall(simulate, simulation.run_day()) if profile else simulate(simulation.run_day())
    spent = time.process_time() - loaded
    tell(simulation, asked.nodes * asked.hours * HOUR / MINUTE, loaded - began, spent)
    say(f"pods started {report.started}, finished {report.finished}, evicted {sum(report.evictions.values())}")
    if profile:
        pstats.Stats(profile, stream=sys.stdout).sort_stats("tottime").print_stats(40)


def tell(simulation: Simulation, node_minutes: float, loading: float, spent: float) -> None:
    """CPU milliseconds per node-minute, by room."""
    seconds, events = dict.fromkeys(ROOMS, 0.0), Counter[str]()
    for (room, _), part in simulation.parts.items():
        seconds[room] += part.running.driver.handling_seconds
        events[room] += part.running.driver.handled
    say(f"{'machines read':16} {loading:8.2f} s, once per process")
    say(f"{'room':16} {'ms per node-minute':>18} {'events per node-minute':>24}")
    for room in ROOMS:
        say(f"{room:16} {1000 * seconds[room] / node_minutes:18.2f} {events[room] / node_minutes:24.2f}")
    say(f"{'bus, loop':16} {1000 * (spent - sum(seconds.values())) / node_minutes:18.2f}")
    say(f"{'all':16} {1000 * spent / node_minutes:18.2f}")


if __name__ == "__main__":
    main()
