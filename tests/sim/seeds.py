"""Days with troubles drawn by a number, which names them for ever:  python -m tests.sim.seeds 417

python -m tests.sim.seeds               as many as NEAP_SEEDS says, from NEAP_SEED on, on all cores
python -m tests.sim.seeds 417 612       these, one after the other, and what they are
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from random import Random
from typing import Final, Literal

from neap.common.units import MINUTE, Seconds
from neap.virtual.faults import Crash, Cut, Jump, Noise, Outage, SlowDisk, Trouble, over_at
from neap.virtual.simulation import ROOMS
from tests.sim.small import STEP, flaws, live

NODES: Final = ("n1", "n2", "n3", "n4")
CENTRAL: Final = ("virtual", "scheduler")
ON_NODES: Final = tuple(room for room in ROOMS if room not in CENTRAL)
KINDS: Final = ("crash", "crash", "central", "noise", "noise", "outage", "cut", "jump", "disk")
SUBJECTS: Final = ("neap.v1.node.>", "neap.v1.node.n1.usage", "neap.v1.node.*.applied")
BEFALLS: Final[tuple[Literal["drop", "delay", "duplicate"], ...]] = ("drop", "delay", "duplicate")
LAST: Final = 24  # minute in which a trouble begins
AGAIN: Final = ".venv/bin/python -m tests.sim.seeds"


def drawn(seed: int) -> tuple[Trouble, ...]:
    """Two to eight troubles."""
    random = Random(f"troubles {seed}")
    return tuple(_trouble(random) for _ in range(random.randint(2, 8)))


def _trouble(random: Random) -> Trouble:
    at: Seconds = random.randint(2, LAST) * MINUTE + random.choice((0, 1, 7, 31))
    away: Seconds = random.choice((0.0, 3.0, 40.0, 130.0, 400.0))
    room, node = random.choice(ON_NODES), random.choice(NODES)
    match random.choice(KINDS):
        case "crash":
            return Crash(room, node, at, away, asked=random.random() < 0.3)
        case "central":
            return Crash(random.choice(CENTRAL), "", at, away, asked=random.random() < 0.3)
        case "noise" if random.random() < 0.2:
            return Noise("neap.v1.work.>", "redeliver", at, away)
        case "noise":
            share, most = random.choice((0.3, 1.0)), random.choice((0.0, 5.0, 150.0))
            return Noise(random.choice(SUBJECTS), random.choice(BEFALLS), at, away, share, most)
        case "outage":
            return Outage(at, away)
        case "cut":
            return Cut(random.choice(("", *NODES)), at, away)
        case "jump":
            return Jump(room, node, random.choice((-400.0, -45.0, 45.0, 400.0)), at, away)
        case _:
            return SlowDisk(at, away, random.choice((0.5, 4.0, 20.0)))


def trial(seed: int) -> list[str]:
    """What is wrong with this day; nothing is what is promised."""
    troubles = drawn(seed)
    until = max(34 * MINUTE, over_at(troubles) + 6 * STEP)
    try:
        return flaws(live(troubles, seed=seed % 4, until=until))
    except (AssertionError, ExceptionGroup) as broken:
        return _leaves(broken)


def _leaves(error: BaseException) -> list[str]:
    """A room that broke, or an invariant that it found broken."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for one in error.exceptions for leaf in _leaves(one)]
    where = traceback.extract_tb(error.__traceback__)[-1]
    return [f"{type(error).__name__} in {where.name}, line {where.lineno} of {Path(where.filename).name}: {error}"]


def told(seed: int, found: Sequence[str]) -> str:
    """For whoever has to find out; the last line is the one to paste."""
    lines = [f"seed {seed}:", *(f"    {trouble}" for trouble in drawn(seed)), *(f"  {flaw[:400]}" for flaw in found)]
    return "\n".join([*lines, f"  again: {AGAIN} {seed}"])


def main(arguments: Sequence[str]) -> int:
    """How many failed, or 1."""
    if arguments:
        failed = {int(seed): trial(int(seed)) for seed in arguments}
        sys.stdout.write("\n".join(told(seed, found) for seed, found in failed.items()) + "\n")
        return int(any(failed.values()))
    first, count = int(os.environ.get("NEAP_SEED", "0")), int(os.environ.get("NEAP_SEEDS", "1000"))
    began, wrong, kinds = time.monotonic(), 0, Counter[str]()
    with ProcessPoolExecutor(int(os.environ.get("NEAP_PROCESSES", "0")) or None) as pool:
        for seed, found in zip(range(first, first + count), pool.map(trial, range(first, first + count)), strict=True):
            kinds.update({type(trouble).__name__ for trouble in drawn(seed)})
            if found:
                wrong += 1
                sys.stdout.write(told(seed, found) + "\n")
                sys.stdout.flush()
    had = ", ".join(f"{kind} in {days}" for kind, days in sorted(kinds.items()))
    took = time.monotonic() - began
    sys.stdout.write(f"{count} seeds from {first} on in {took:.0f} s, {wrong} failed; {had}\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
