"""The hook ladder: by which door advice reaches the containers, and what this kernel lacks.

NRI is tried by its own client, which says RungFound; cgroups are tried by Probe. The best rung that works is the
node's rung. Whether knobs may be written at all is the second rung's question, whatever the first one says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from neap.common.model.enforcement import NodeEnforcement, Rung, Stance
from neap.common.units import Seconds
from neap.enforcer.core.instruction import Probed, RungFound
from neap.enforcer.core.knob import Knob, Reach

NO_NRI: Final = "not tried: no socket is named, or this host has no runtime"
TOLD_ONLY: Final = "advice is told and heeded nowhere"


class Ladder:
    """See module docstring."""

    def __init__(self, knobs: Mapping[str, Knob]) -> None:
        self._knobs = knobs
        self._works = {Rung.NRI: False, Rung.CGROUP: False, Rung.ADVISE_ONLY: True}
        self._probes = {Rung.NRI: NO_NRI, Rung.CGROUP: "not probed yet", Rung.ADVISE_ONLY: TOLD_ONLY}
        self.lacking: dict[str, str] = {}  # knobs that this kernel does not have -> why; known before any write
        self._met: dict[str, str] = {}  # knobs that a single cgroup did not have -> why; met on the way
        self.is_probed = False  # and so has nothing to say

    @property
    def rung(self) -> Rung:
        """The best that works."""
        return next(rung for rung in Rung if self._works[rung])

    def works(self, rung: Rung) -> bool:
        """Whether this door opens."""
        return self._works[rung]

    @property
    def can_write(self) -> bool:
        """Whether cgroups can be written."""
        return self._works[Rung.CGROUP]

    @property
    def why_not(self) -> str:
        """Why cgroups cannot be written, if so."""
        return "" if self.can_write else self._probes[Rung.CGROUP]

    def found(self, told: RungFound) -> None:
        """What another door's client says."""
        self._works[told.rung], self._probes[told.rung] = told.works, told.why

    def failed(self, error: str) -> None:
        """The host does not answer."""
        self.is_probed = True
        self.found(RungFound(Rung.CGROUP, works=False, why=error))

    def probed(self, found: Probed) -> None:
        """What the kernel says."""
        self.is_probed = True
        if not found.root:
            self.found(RungFound(Rung.CGROUP, works=False, why=found.denied or "no cgroups of pods here"))
        elif found.denied:
            self.found(RungFound(Rung.CGROUP, works=False, why=f"{found.root} cannot be written: {found.denied}"))
        else:
            told = f"{found.root} on kernel {found.kernel or 'unknown'}: {' '.join(found.controllers) or 'unknown'}"
            self.found(RungFound(Rung.CGROUP, works=True, why=told))
        if found.root:
            whys = {file: _lacks(knob, found) for file, knob in self._knobs.items()}
            self._met = {file: why for file, why in self._met.items() if whys[file] or file not in self.lacking}
            self.lacking = {file: why for file, why in whys.items() if why}

    def met(self, file: str, why: str) -> bool:
        """A cgroup has no such file, or the kernel does not take it; whether that is news."""
        is_news = file not in self._met
        self._met.setdefault(file, why)
        return is_news

    def told(self, node: str, at: Seconds, stance: Stance, why: str) -> NodeEnforcement:
        """For the bus."""
        is_in_vain = stance is Stance.FOLLOWING and self.rung is Rung.ADVISE_ONLY
        return NodeEnforcement(
            at=at,
            source="enforcer",
            node=node,
            rung=self.rung,
            stance=stance,
            why=f"{why}, told only: {self.why_not}" if is_in_vain else why,
            probes=dict(self._probes),
            unsupported=dict(sorted({**self._met, **self.lacking}.items())),
        )


def _lacks(knob: Knob, found: Probed) -> str:
    """Why this kernel does not have a knob, or ""."""
    match knob.reach:
        case Reach.PROCESSES:
            return ""
        case Reach.TASKS | Reach.GROUP:
            return "" if found.resctrl else "resctrl is not mounted at /sys/fs/resctrl"
    for file in (knob.file, *knob.beside):
        if file not in found.files:
            return _why_missing(file, found)
    file, word = knob.enabled_by
    if file and word not in (found.switches.get(file) or ""):
        return f"without effect: {file} of the root cgroup says {word} for no device"
    return ""


def _why_missing(file: str, found: Probed) -> str:
    controller = file.partition(".")[0]
    if file.endswith(".pressure"):
        return f"no {file}: the kernel was started without psi=1, and nothing would stop it from hurting the cgroup"
    if found.controllers and controller not in found.controllers:
        return f"no {file}: controller {controller} is not enabled for {found.root}"
    return f"no {file} in {found.root}: kernel {found.kernel or 'unknown'} does not offer it"
