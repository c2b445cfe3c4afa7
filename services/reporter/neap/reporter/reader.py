"""The reporter without a bus: look at one host, sample by sample. For `neap node`, tests, and curious people.

    reader = NodeReader(RealHost("/"), clock=clock.now, node="here")
    reader.sample()                        # the first sample has no rates
    usage = reader.sample()                # one period later

It turns the same machine the service runs, so what it shows is what would be published, with all containers always.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from neap.common.host.port import HostFs
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage, Pressure
from neap.common.runtime.machine import Count, Done, Emit, Event, Publish, Put, Tick
from neap.common.units import Seconds
from neap.reporter.core.machine import LOOK, REPORT, ReporterMachine
from neap.reporter.settings import Settings
from neap.reporter.shell.host import execute
from neap.reporter.wiring import COLLECTORS


class NodeReader:
    """One host's topology and usage, on demand. `clock` gives seconds, as the clock port does."""

    def __init__(
        self, host: HostFs, *, clock: Callable[[], Seconds], node: str, settings: Settings | None = None
    ) -> None:
        self._host, self._clock = host, clock
        told = msgspec.structs.replace(settings or Settings(), node=node, full_every=1, skip_at_most=0)
        self._machine = ReporterMachine(told, COLLECTORS)
        self._topology: NodeTopology | None = None
        self._usage: NodeUsage | None = None
        self.pressures: list[Pressure] = []  # thresholds crossed in the last sample

    def topology(self) -> NodeTopology:
        """The machine as it is now."""
        self._turn(Tick(self._clock(), LOOK))
        assert self._machine.topology is not None, "a look at the topology always ends in one"
        return self._machine.topology

    def sample(self) -> NodeUsage:
        """One report; rates cover the time since the sample before."""
        self.pressures = []
        self._turn(Tick(self._clock(), REPORT))
        assert self._usage is not None, "a report always ends in a message"
        return self._usage

    def _turn(self, event: Event) -> None:
        """Handle one event and everything it leads to."""
        pending = [event]
        while pending:
            for instruction in self._machine.handle(pending.pop(0)):
                match instruction:
                    case Publish(message=NodeUsage() as usage):
                        self._usage = usage
                    case Emit(message=Pressure() as pressure):
                        self.pressures.append(pressure)
                    case Put() | Count():
                        pass
                    case _:
                        outcome = execute(self._host, self._clock, instruction)
                        pending.append(Done(self._clock(), instruction, outcome))


def read_node(reader: NodeReader, wait: Callable[[], None]) -> tuple[NodeTopology, NodeUsage]:
    """Topology and one report with rates; `wait` lets a period pass between the two samples it takes."""
    topology = reader.topology()
    reader.sample()
    wait()
    return topology, reader.sample()
