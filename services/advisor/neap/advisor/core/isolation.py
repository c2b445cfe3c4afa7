"""Which noisy owners get a pool of their own, so that the neighbours they share CPUs with are left alone.

    load       = cores in use + tasks that waited for one, on average       (nr_runnable, averaged over the report)
    overloaded = load > room × ratio   or   load > room + surplus           room = max(limit, request)      [cores]
    isolated   after `lock_in` overloaded reports on end;   shared again after `lock_out` calm reports on end
    per pool   Σ room of the isolated ≤ most_room × Σ room of all,   their number ≤ min(pods − 1, most_pods × pods)

One overloaded part (container) isolates its pod. Who is isolated keeps its place before others, then the noisiest
comes first; who finds no place collects no rounds while it waits. An unknown load changes nothing.
Source: katalyst-core sysadvisor cpu/isolation/isolator_load.go (reference §4.6, acceptance case A6). On purpose
otherwise: Katalyst goes by uid where not all fit, not by noise; it counts seconds until a pod is shared again, we
count reports; the kernel counts no runnable tasks per cgroup, so we take what waited: run delay, or PSI some, which
is the least that can have waited.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeAlias

import msgspec

from neap.common.units import Cores, Ratio


class Part(NamedTuple):
    """What is judged: a container, or a pod whose containers nobody can tell apart."""

    load: Cores | None  # None: unknown
    room: Cores


class Runner(NamedTuple):
    """An owner that shares a pool."""

    uid: str
    pool: str  # without the NUMA node it is bound to
    parts: tuple[Part, ...]

    @property
    def room(self) -> Cores:
        """Cores it may use."""
        return sum(part.room for part in self.parts)


class Rules(NamedTuple):
    """When somebody is too loud, for how long, and how many may be at most."""

    ratio: float = 1.5
    surplus: Cores = 2.0
    lock_in: int = 3  # overloaded reports
    lock_out: int = 24  # calm reports
    most_room: Ratio = 0.2
    most_pods: Ratio = 0.5
    spared: frozenset[str] = frozenset()  # pools nobody is isolated from


class Watch(msgspec.Struct, frozen=True):
    """What is remembered of one owner between two rounds."""

    hits: int = 0  # overloaded reports on end
    calm: int = 0  # calm reports on end
    isolated: bool = False


Watches: TypeAlias = dict[str, Watch]  # by uid
QUIET = Watch()


def isolate(runners: Iterable[Runner], before: Mapping[str, Watch], rules: Rules) -> Watches:
    """What is remembered after one more report. Cost: O(owners × log owners).

    Laws: a pool keeps somebody; the isolated have at most most_room of it; the order of owners does not matter.
    """
    pools: dict[str, list[Runner]] = {}
    for runner in runners:
        pools.setdefault(runner.pool, []).append(runner)
    after: Watches = {}
    for name, members in sorted(pools.items()):
        after |= {} if name in rules.spared else _in_pool(members, before, rules)
    return {uid: watch for uid, watch in sorted(after.items()) if watch != QUIET}


def _in_pool(members: list[Runner], before: Mapping[str, Watch], rules: Rules) -> Watches:
    most = rules.most_room * sum(runner.room for runner in members)
    places = min(len(members) - 1, int(rules.most_pods * len(members)))
    taken, after = 0.0, Watches()

    def turn(runner: Runner) -> tuple[bool, float, str]:
        return not before.get(runner.uid, QUIET).isolated, -_noise(runner), runner.uid

    for runner in sorted(members, key=turn):
        if places <= 0 or taken + runner.room > most + 1e-9:
            continue
        watch = after[runner.uid] = _watched(before.get(runner.uid, QUIET), _overloaded(runner, rules), rules)
        if watch.isolated:
            taken, places = taken + runner.room, places - 1
    return after


def _noise(runner: Runner) -> float:
    """Load per room of its loudest part; nothing while unknown."""
    return max((part.load / part.room for part in runner.parts if part.load is not None and part.room > 0), default=0.0)


def _overloaded(runner: Runner, rules: Rules) -> bool | None:
    """None: nobody knows."""
    if any(_loud(part, rules) for part in runner.parts):
        return True
    return None if not runner.parts or any(part.load is None for part in runner.parts) else False


def _loud(part: Part, rules: Rules) -> bool:
    if part.load is None:
        return False
    return part.load > part.room * rules.ratio or part.load > part.room + rules.surplus


def _watched(before: Watch, overloaded: bool | None, rules: Rules) -> Watch:
    if overloaded is None:
        return before
    if overloaded:
        hits = min(before.hits + 1, rules.lock_in)
        return Watch(hits, 0, before.isolated or hits >= rules.lock_in)
    calm = before.calm + 1
    return Watch(0, calm, isolated=True) if before.isolated and calm < rules.lock_out else QUIET
