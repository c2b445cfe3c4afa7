"""Feeling for what a host offers: is there a tree of pods, may it be written, what does this kernel have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neap.common.errors import Denied, PortError
from neap.common.host.port import HostFs
from neap.common.host.turn import in_turn
from neap.enforcer.core.instruction import Probe, Probed
from neap.enforcer.core.knob import Knob
from neap.enforcer.core.rdt import RESCTRL

RELEASE: Final = "/proc/sys/kernel/osrelease"
CONTROL: Final = "cgroup.subtree_control"


class Feeler:
    """Executes Probe on one host."""

    def __init__(self, host: HostFs, knobs: Mapping[str, Knob], roots: Sequence[str]) -> None:
        self._host, self._roots = host, roots
        self._switches = sorted({knob.enabled_by[0] for knob in knobs.values() if knob.enabled_by[0]})

    async def probe(self, asked: Probe) -> Probed:
        """See module docstring."""
        del asked
        return await in_turn(self._host, self._probe)

    def _probe(self) -> Probed:
        listed = zip(self._roots, self._host.list_all(self._roots), strict=True)
        root, names = next(((root, names) for root, names in listed if names is not None), ("", []))
        if not root:
            return Probed("", f"no cgroups of pods: neither of {', '.join(self._roots)} is there")
        above = root.rpartition("/")[0]
        paths = [f"{root}/cgroup.controllers", RELEASE, f"{RESCTRL}/schemata"]
        paths += [f"{above}/{file}" for file in self._switches]
        controllers, release, schemata, *switches = self._host.read_all(paths)
        return Probed(
            root,
            self._denied(root),
            tuple((controllers or "").split()),
            tuple(names),
            dict(zip(self._switches, switches, strict=True)),
            resctrl=schemata is not None,
            kernel=(release or "").strip(),
        )

    def _denied(self, root: str) -> str:
        """Whether the right to write is missing, felt without a change.

        What cgroup.subtree_control shows ("cpu memory") is not what it takes ("+cpu"), so the kernel refuses it
        (EINVAL), but only from someone who may write at all.
        """
        try:
            self._host.write(f"{root}/{CONTROL}", self._host.read(f"{root}/{CONTROL}"))
        except Denied as error:
            return str(error)
        except PortError:
            return ""
        return ""
