"""The reporter's fold: a tick becomes a list of files, their text a report.

    Tick "report"  -> LookAround(patterns)              which devices are there, only when that is due
       Done        -> ListDirs(class directories)       which pods are there
       Done        -> ListDirs(pods that are due)       which containers, only when some are due
       Done        -> ReadFiles(all that are due, one call)
       Done        -> Publish NODE_USAGE, Emit PRESSURE when a threshold was crossed
    Tick "topology", and once at the start
                   -> ReadTopology -> Put TOPOLOGY when it differs from what was last put

A tick during a report is skipped and counted; a host that does not answer costs that report and nothing else. How
much of a report is sent is decided in telling.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from neap.common.contract.catalogue import NODE_USAGE, PRESSURE, TOPOLOGY
from neap.common.cpuset import parse_cpuset
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage
from neap.common.runtime.machine import Count, Done, Emit, Event, Failed, Instruction, Publish, Put, Tick
from neap.common.units import Seconds
from neap.reporter.core.collector import Collector, Surroundings
from neap.reporter.core.containers import ROOT, Inventory
from neap.reporter.core.instruction import ListDirs, Listing, LookAround, ReadFiles, Reading, ReadTopology
from neap.reporter.core.pressure import PressureFold
from neap.reporter.core.recent import Recent
from neap.reporter.core.sensing import Found, Senses, capped, numa_usage
from neap.reporter.core.surroundings import caches
from neap.reporter.core.telling import Telling
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.snapshot import Snapshot
from neap.reporter.metrics import FAILED, QUIET, READ_BYTES, REPORTS, SHORT, SKIPPED, TOO_LONG, UNKNOWN
from neap.reporter.settings import Settings

REPORT: Final = "report"
LOOK: Final = "topology"
PATIENCE: Final = 5  # periods after which a report that never came back is given up
SOURCE: Final = "reporter"
TOLD: Final = frozenset(NodeUsage.__struct_fields__)


class ReporterMachine:
    """One node's reporter; see module docstring."""

    def __init__(self, settings: Settings, collectors: Mapping[str, Collector]) -> None:
        self._settings = settings
        on = {name: collectors[name] for name in sorted(collectors) if name not in settings.off}
        rounds = {
            name: max(1, round(settings.every.get(name, each.every) / settings.period)) for name, each in on.items()
        }
        self._senses, self._telling = Senses(on, rounds), Telling(settings)
        self._names: dict[str, tuple[str, ...]] = {}  # in the directories the collectors asked for
        self._look_due = 0  # the round in which they are listed again
        self._usage_to, self._pressure_to = NODE_USAGE.at(node=settings.node), PRESSURE.at(node=settings.node)
        self._topology_to = TOPOLOGY.at(node=settings.node)
        self._inventory = Inventory(settings.relist_every, settings.cgroup_roots)
        self._pressure, self.recent = PressureFold(), Recent()
        self._turn = 0
        self._seq = 0
        self._asked: tuple[Seconds, Instruction] | None = None  # the report being made, and what it waits for
        self._read_at: Seconds | None = None
        self._looked = False
        self._topology: NodeTopology | None = None
        self._put: NodeTopology | None = None
        self._cpus_of: dict[int, frozenset[int]] = {}  # NUMA node -> usable CPUs
        self._node_dirs: list[int] = []  # NUMA nodes that sysfs has; not an implied one

    @property
    def topology(self) -> NodeTopology | None:
        """The machine as last seen."""
        return self._topology

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See module docstring."""
        match event:
            case Tick(at=at, name="report"):
                return [*self._look(first=True), *self._begin(at)]
            case Tick(name="topology"):
                return self._look(first=False)
            case Done(instruction=ReadTopology(), outcome=Snapshot() as seen, at=at):
                return self._found(seen, at)
            case Done(instruction=LookAround() as asked, outcome=dict() as names) if self._is_asked(asked):
                return self._looked_around(names)
            case Done(instruction=ListDirs() as asked, outcome=listings) if self._is_asked(asked):
                return self._listed(asked, listings)
            case Done(instruction=ReadFiles() as asked, outcome=Reading() as reading) if self._is_asked(asked):
                return self._report(asked, reading)
            case Failed(instruction=LookAround() | ListDirs() | ReadFiles() | ReadTopology() as asked):
                self._asked = None if self._is_asked(asked) else self._asked
                self._looked = self._looked and not isinstance(asked, ReadTopology)
                return [Count(FAILED)]
            case Failed(instruction=Put()):
                self._put = None
        return []

    def _is_asked(self, instruction: Instruction) -> bool:
        return self._asked is not None and self._asked[1] is instruction

    # -- topology ----------------------------------------------------------------------------------------------------

    def _look(self, *, first: bool) -> list[Instruction]:
        if first and self._looked:
            return []
        self._looked = True
        return [ReadTopology(self._settings.topology_file)]

    def _found(self, seen: Snapshot, at: Seconds) -> list[Instruction]:
        settings = self._settings
        topology = build(
            seen,
            node=settings.node,
            at=at,
            reserve=Reserve(
                cpu_count=settings.system_cpu_count, cpus=settings.system_cpus, memory=settings.system_memory
            ),
            labels=settings.labels,
            vendor_file=settings.topology_file,
        )
        self._topology = topology
        self._cpus_of = {entry.index: parse_cpuset(entry.cpus) for entry in topology.numa}
        self._node_dirs = [index for index in seen.node_numbers() if index in self._cpus_of]
        self._surround()
        if self._put is not None and msgspec.structs.replace(topology, at=self._put.at) == self._put:
            return []
        self._put = topology
        return [Put(self._topology_to, topology)]

    # -- usage -------------------------------------------------------------------------------------------------------

    def _begin(self, at: Seconds) -> list[Instruction]:
        if self._asked is not None and at - self._asked[0] < PATIENCE * self._settings.period:
            return [Count(SKIPPED)]
        self._turn += 1
        if self._turn >= self._look_due and self._senses.lists:
            return [self._ask(at, LookAround(self._senses.lists))]
        return [self._list_classes(at)]

    def _ask(self, at: Seconds, instruction: Instruction) -> Instruction:
        self._asked = (at, instruction)
        return instruction

    def _list_classes(self, begun: Seconds) -> Instruction:
        return self._ask(begun, ListDirs(tuple(f"{ROOT}/{path}" for path in self._inventory.classes())))

    def _looked_around(self, names: dict[str, tuple[str, ...]]) -> list[Instruction]:
        self._look_due = self._turn + self._settings.devices_every
        if names != self._names:
            self._names = names
            self._surround()
        return [self._list_classes(self._asked[0] if self._asked else 0.0)]

    def _surround(self) -> None:
        near = caches(self._topology) if self._topology else ()
        self._senses.surround(Surroundings(tuple(self._node_dirs), self._names, near))

    def _listed(self, asked: ListDirs, listings: tuple[Listing, ...]) -> list[Instruction]:
        begun = self._asked[0] if self._asked else 0.0
        below = [path.removeprefix(f"{ROOT}/") for path in asked.paths]
        if below == list(self._inventory.classes()):
            self._inventory.fold_classes(below, listings)
            if due := self._inventory.due(self._turn):
                return [self._ask(begun, ListDirs(tuple(f"{ROOT}/{cgroup}" for cgroup in due)))]
        else:
            self._inventory.fold_pods(self._turn, below, listings)
        return [self._ask(begun, ReadFiles(self._senses.plan(self._turn, self._inventory.places())))]

    def _report(self, asked: ReadFiles, reading: Reading) -> list[Instruction]:
        self._asked = None
        if len(reading.texts) != len(asked.paths):
            return [Count(FAILED)]
        seconds = 0.0 if self._read_at is None else reading.at - self._read_at
        found = self._senses.fold(reading.texts, reading.at)
        self._read_at = reading.at
        for place in found.silent:
            self._inventory.silent(place)
        self._look_due = self._turn if found.lost else self._look_due
        usage = self._usage(found, reading.at, seconds)
        message = self._telling.tell(usage)
        told: list[Instruction] = [Count(QUIET)]
        if message is not None:
            self.recent.add(message)
            told = [Publish(self._usage_to, message), Count(REPORTS)]
            told += [Count(SHORT)] if message.since else self._spent()
        if found.missing:
            told.append(Count(UNKNOWN, found.missing))
        capacity = self._topology.capacity if self._topology else {}
        for crossed in self._pressure.fold(self._settings, usage, capacity):
            way = "rose" if crossed.risen else "fell"
            id = f"{crossed.node}.{crossed.metric}.{way}.{self._seq}"
            told.append(Emit(self._pressure_to, crossed, id=id))
        return told

    def _usage(self, found: Found, at: Seconds, seconds: Seconds) -> NodeUsage:
        self._seq = max(self._seq + 1, int(at * 1000))  # grows over a restart as well
        return NodeUsage(
            at=at,
            source=SOURCE,
            node=self._settings.node,
            seq=self._seq,
            period=seconds if seconds > 0 else self._settings.period,
            numa=numa_usage(self._cpus_of, found.node),
            containers=tuple(found.containers),
            unknown=capped((*self._inventory.unknown(), *found.unknown)),
            **{name: value for name, value in found.node.items() if name in TOLD},
        )

    def _spent(self) -> list[Instruction]:
        """What the collectors cost since the last full report."""
        read, refused = self._senses.spent()
        return [
            Count(metric, amount, {"collector": name})
            for metric, amounts in ((READ_BYTES, read), (TOO_LONG, refused))
            for name, amount in amounts.items()
        ]

    def validate(self) -> None:
        """What is remembered belongs to containers that are known, and nothing is counted twice."""
        cgroups = [place.cgroup for place in self._inventory.places()]
        assert len(cgroups) == len(set(cgroups)), f"a container is known twice: {sorted(cgroups)}"
        assert all(
            place.cgroup.startswith(f"{pod}/")
            for pod, known in self._inventory.pods.items()
            for place in known.containers
        ), "a container is filed under a pod it does not live in"
        owned = [cpu for cpus in self._cpus_of.values() for cpu in cpus]
        assert len(owned) == len(set(owned)), "a CPU belongs to two NUMA nodes"
        if self._topology is not None:
            stray = set(owned) - parse_cpuset(self._topology.machine.cpus)
            assert not stray, f"NUMA nodes with CPUs that are not usable: {sorted(stray)}"
