"""The machine of the service "virtual": the submitter, the kubelet of all nodes, and the door to their files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neap.common.contract.catalogue import PLACEMENTS
from neap.common.runtime.machine import Event, Instruction, Stopping, Synced
from neap.virtual.kubelet import KubeletMachine
from neap.virtual.submitter import SubmitterMachine


@dataclass(frozen=True, slots=True)
class OpenHosts(Instruction):
    """The histories are read, pods may come: empty the hosts and serve their files, if that is not done yet."""


@dataclass(frozen=True, slots=True)
class CloseHosts(Instruction):
    """Serve them no longer."""


class VirtualMachine:
    """Hands every event to both; the kubelet first, so that a freed place is known when guests are counted."""

    def __init__(self, kubelet: KubeletMachine, submitter: SubmitterMachine) -> None:
        self._kubelet, self._submitter = kubelet, submitter

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        acts = [*self._kubelet.handle(event), *self._submitter.handle(event)]
        match event:
            case Synced(channel=channel) if channel.pattern == PLACEMENTS.pattern:
                return [OpenHosts(), *acts]
            case Stopping():
                return [*acts, CloseHosts()]
        return acts

    def validate(self) -> None:
        """Raises AssertionError when one of the two does."""
        self._kubelet.validate()
        self._submitter.validate()
