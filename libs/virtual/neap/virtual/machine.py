"""The machine of the service "virtual": the submitter, the kubelet of all nodes, the door to their files, the record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from neap.common.contract.catalogue import PAST, PLACEMENTS, WORKLOAD
from neap.common.model.past import PastUsage
from neap.common.runtime.machine import Emit, Event, Instruction, Stopping, Synced
from neap.common.units import Seconds
from neap.virtual.kubelet import KubeletMachine
from neap.virtual.submitter import SubmitterMachine


@dataclass(frozen=True, slots=True)
class OpenHosts(Instruction):
    """The histories are read, pods may come: empty the hosts and serve their files, if that is not done yet."""


@dataclass(frozen=True, slots=True)
class CloseHosts(Instruction):
    """Serve them no longer."""


Record = Callable[[Seconds], Sequence[PastUsage]]  # of the days before a time


class VirtualMachine:
    """Hands every event to both; the kubelet first, so that a freed place is known when guests are counted.

    `past` is told once, before the day's first workload.
    """

    def __init__(self, kubelet: KubeletMachine, submitter: SubmitterMachine, past: Record = lambda _: ()) -> None:
        self._kubelet, self._submitter, self._past = kubelet, submitter, past

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        acts = [*self._kubelet.handle(event), *self._submitter.handle(event)]
        match event:
            case Synced(channel=channel) if channel.pattern == PLACEMENTS.pattern:
                return [OpenHosts(), *acts]
            case Synced(channel=channel, at=at) if channel.pattern == WORKLOAD.pattern and self._submitter.is_new:
                return [*acts, *(_told(line) for line in self._past(at))]
            case Stopping():
                return [*acts, CloseHosts()]
        return acts

    def validate(self) -> None:
        """Raises AssertionError when one of the two does."""
        self._kubelet.validate()
        self._submitter.validate()


def _told(line: PastUsage) -> Emit:
    name = f"past.{line.namespace}.{line.name}.{line.replica or line.container}.{line.resource}.{line.start:.0f}"
    return Emit(PAST.at(namespace=line.namespace), line, name)
