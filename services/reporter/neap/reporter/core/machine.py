"""The reporter's fold: a tick becomes a list of files, their text a report.

    Tick "report"  -> ListDirs(class directories)       which pods are there
       Done        -> ListDirs(pods that are due)       which containers, only when some are due
       Done        -> ReadFiles(everything, one call)
       Done        -> Publish NODE_USAGE, Emit PRESSURE when a threshold was crossed
    Tick "topology", and once at the start
                   -> ReadTopology -> Put TOPOLOGY when it differs from what was last put

A tick during a report is skipped and counted; a host that does not answer costs that report and nothing else.
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
from neap.reporter.core.collector import Collector
from neap.reporter.core.containers import ROOT, Inventory
from neap.reporter.core.instruction import ListDirs, Listing, ReadFiles, Reading, ReadTopology
from neap.reporter.core.pressure import PressureFold
from neap.reporter.core.topology.build import Reserve, build
from neap.reporter.core.topology.snapshot import Snapshot
from neap.reporter.core.usage import Plan, UsageFold, numa_usage, plan
from neap.reporter.metrics import FAILED, REPORTS, SKIPPED, UNKNOWN
from neap.reporter.settings import Settings

REPORT: Final = "report"
LOOK: Final = "topology"
PATIENCE: Final = 5  # periods after which a report that never came back is given up
SOURCE: Final = "reporter"


class ReporterMachine:
    """One node's reporter; see module docstring."""

    def __init__(self, settings: Settings, collectors: Mapping[str, Collector]) -> None:
        self._settings = settings
        self._collectors = [collectors[name] for name in sorted(collectors) if name not in settings.off]
        self._usage_to, self._pressure_to = NODE_USAGE.at(node=settings.node), PRESSURE.at(node=settings.node)
        self._topology_to = TOPOLOGY.at(node=settings.node)
        self._inventory = Inventory(settings.relist_every)
        self._fold, self._pressure = UsageFold(), PressureFold()
        self._turn = 0
        self._seq = 0
        self._asked: tuple[Seconds, Instruction] | None = None  # the report being made, and what it waits for
        self._planned: Plan | None = None  # of the report being made
        self._known: Plan | None = None  # the last one, good as long as the same containers are here
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
            case Done(instruction=ListDirs() as asked, outcome=listings) if self._is_asked(asked):
                return self._listed(asked, listings)
            case Done(instruction=ReadFiles() as asked, outcome=Reading() as reading) if self._is_asked(asked):
                return self._report(reading)
            case Failed(instruction=ListDirs() | ReadFiles() | ReadTopology() as asked):
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
        return [ReadTopology()]

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
        )
        self._topology = topology
        self._cpus_of = {entry.index: parse_cpuset(entry.cpus) for entry in topology.numa}
        self._known = None
        self._node_dirs = [index for index in seen.node_numbers() if index in self._cpus_of]
        if self._put is not None and msgspec.structs.replace(topology, at=self._put.at) == self._put:
            return []
        self._put = topology
        return [Put(self._topology_to, topology)]

    # -- usage -------------------------------------------------------------------------------------------------------

    def _begin(self, at: Seconds) -> list[Instruction]:
        if self._asked is not None and at - self._asked[0] < PATIENCE * self._settings.period:
            return [Count(SKIPPED)]
        self._turn += 1
        return [self._ask(at, ListDirs(tuple(f"{ROOT}/{path}" for path in self._inventory.classes())))]

    def _ask(self, at: Seconds, instruction: Instruction) -> Instruction:
        self._asked = (at, instruction)
        return instruction

    def _listed(self, asked: ListDirs, listings: tuple[Listing, ...]) -> list[Instruction]:
        begun = self._asked[0] if self._asked else 0.0
        below = [path.removeprefix(f"{ROOT}/") for path in asked.paths]
        if below == list(self._inventory.classes()):
            self._inventory.fold_classes(below, listings)
            if due := self._inventory.due(self._turn):
                return [self._ask(begun, ListDirs(tuple(f"{ROOT}/{cgroup}" for cgroup in due)))]
        else:
            self._inventory.fold_pods(self._turn, below, listings)
        places = tuple(self._inventory.places())
        if self._known is None or self._known.places != places:
            self._known = plan(self._collectors, self._node_dirs, places)
        self._planned = self._known
        return [self._ask(begun, ReadFiles(self._planned.paths))]

    def _report(self, reading: Reading) -> list[Instruction]:
        planned, self._planned, self._asked = self._planned, None, None
        if planned is None or len(reading.texts) != len(planned.paths):
            return [Count(FAILED)]
        seconds = 0.0 if self._read_at is None else reading.at - self._read_at
        found = self._fold.fold(planned, reading.texts, seconds)
        self._read_at = reading.at
        for place in found.silent:
            self._inventory.silent(place)
        self._seq = max(self._seq + 1, int(reading.at * 1000))  # grows over a restart as well
        fields = {name: value for name, value in found.node.items() if name in NodeUsage.__struct_fields__}
        usage = NodeUsage(
            at=reading.at,
            source=SOURCE,
            node=self._settings.node,
            seq=self._seq,
            period=seconds if seconds > 0 else self._settings.period,
            numa=numa_usage(self._cpus_of, found.node),
            containers=tuple(found.containers),
            unknown=found.unknown,
            **fields,
        )
        told: list[Instruction] = [Publish(self._usage_to, usage), Count(REPORTS)]
        if found.missing:
            told.append(Count(UNKNOWN, found.missing))
        capacity = self._topology.capacity if self._topology else {}
        for crossed in self._pressure.fold(self._settings, usage, capacity):
            way = "rose" if crossed.risen else "fell"
            id = f"{crossed.node}.{crossed.metric}.{way}.{self._seq}"
            told.append(Emit(self._pressure_to, crossed, id=id))
        return told

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
