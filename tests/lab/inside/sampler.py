"""A process that looks at tasks all the time, while something else happens."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec

from tests.lab.inside.kernel import allowed
from tests.lab.inside.wait import until

CPU = 1  # where it runs; the enforcer has the other one of the system's CPUs
LONGEST = 230.0
KEPT = 20  # violations that are told


class Seen(msgspec.Struct):
    """What came of it. `torn`: the first task's set changed while the others were read; that look counts for nothing."""

    samples: int = 0
    torn: int = 0
    sets: int = 0  # different sets of the others that were seen
    violations: list[str] = []


class Sampler:
    """See `looking`."""

    def __init__(self, told: Path) -> None:
        self._told = told
        self.end: Seen | None = None

    def seen(self) -> Seen:
        """So far, and when it is over all of it."""
        if self.end is not None:
            return self.end
        return msgspec.json.decode(self._told.read_bytes(), type=Seen) if self._told.exists() else Seen()


@contextmanager
def looking(look: Callable[[Seen], None]) -> Iterator[Sampler]:
    """`look` is called again and again in a process of its own; it counts in what it is given."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pid = os.fork()
        if pid == 0:
            _look(look, folder)
        sampler = Sampler(folder / "now")
        try:
            until(lambda: sampler.seen().samples, "the sampler looks")
            yield sampler
            (folder / "end").touch()
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            os.waitpid(pid, 0)
            sampler.end = sampler.seen()


def _look(look: Callable[[Seen], None], folder: Path) -> NoReturn:
    seen, end, told = Seen(), time.monotonic() + LONGEST, 0.0
    try:
        signal.alarm(0)
        os.sched_setaffinity(0, {CPU})
        while time.monotonic() < end:
            last = (folder / "end").exists()
            look(seen)
            del seen.violations[KEPT:]
            if last or time.monotonic() > told + 0.2:
                told = time.monotonic()
                fresh = folder / "fresh"
                fresh.write_bytes(msgspec.json.encode(seen))
                fresh.replace(folder / "now")
            if last:
                break
    finally:
        os._exit(0)


def apart(mine: list[int], others: list[int]) -> Callable[[Seen], None]:
    """Whether no task of `others` may run where one of `mine` may.

    /proc cannot be read in one moment: `mine` is read before and after the others, and only if it is the same both
    times something is said about what lies between.
    """
    known: set[frozenset[int]] = set()

    def look(seen: Seen) -> None:
        before = [allowed(pid) for pid in mine]
        found = {pid: allowed(pid) for pid in others}
        if [allowed(pid) for pid in mine] != before:
            seen.torn += 1
            return
        seen.samples += 1
        known.update(found.values())
        seen.sets = len(known)
        for pid, cpus in found.items():
            if common := cpus & frozenset().union(*before):
                seen.violations.append(f"sample {seen.samples}: task {pid} may run on {sorted(common)} as well")

    return look


def never_without(pids: list[int]) -> Callable[[Seen], None]:
    """Whether every task always has a CPU."""
    known: set[frozenset[int]] = set()

    def look(seen: Seen) -> None:
        seen.samples += 1
        for pid in pids:
            cpus = allowed(pid)
            known.add(cpus)
            if not cpus:
                seen.violations.append(f"sample {seen.samples}: task {pid} has no CPU")
        seen.sets = len(known)

    return look
