"""What is owed to the host: the original of every knob we wrote, and what we made of it.

An original is what a knob showed before our first write. If another hand (the kubelet resizing a pod) writes it
afterwards, that is what the node would run without us, so that is the original from then on; ours is written over it
again, because the kubelet's word is about the pod and the advice about the node's present hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from neap.common.errors import InputError
from neap.common.model.advice import WriteStatus
from neap.enforcer.core.instruction import Originals, Outcome, Write, still_owed
from neap.enforcer.core.knob import Knob, Reach, Site
from neap.enforcer.core.kubepods import Tree
from neap.enforcer.core.plan import Aim
from neap.enforcer.core.rdt import GROUP, RESCTRL


class Debt:
    """See module docstring. `journaled` is what the restore journal held when the process started."""

    def __init__(self, journaled: Originals, knobs: Mapping[str, Knob], roots: Iterable[str]) -> None:
        self._knobs = knobs
        self._roots = tuple(root + "/" for root in (*roots, RESCTRL))
        self.originals = {site: text for site, text in journaled.items() if self._is_ours(site, text)}
        self.foreign = len(journaled) - len(self.originals)
        self.made: dict[Site, str] = {}  # texts that are there by us; another text there is another hand's
        self._sites = tuple(self.originals)

    @property
    def sites(self) -> tuple[Site, ...]:
        """Of all originals; the same object as long as they are the same."""
        if len(self._sites) != len(self.originals) or any(site not in self.originals for site in self._sites):
            self._sites = tuple(self.originals)
        return self._sites

    def look(self, tree: Tree, texts: Mapping[Site, str | None]) -> int:
        """Forget what is gone, learn what others wrote; how many originals are gone."""
        owed = len(self.originals)
        self.originals = {site: text for site, text in self.originals.items() if tree.has(site.cgroup)}
        for site, made in self.made.items():
            read = texts.get(site)
            if read is not None and site in self.originals and self._is_anothers(site, made, read, texts):
                self.originals[site] = read
        return owed - len(self.originals)

    def recognise(self, aims: Mapping[Site, Aim], texts: Mapping[Site, str | None]) -> None:
        """What shows as advised is ours: written now, or by an earlier life of this process."""
        self.made = {site: text for site, text in self.made.items() if site in aims and not aims[site].restores}
        for site, aim in aims.items():
            read = texts.get(site)
            if aim.restores or read is None or site in self.made or site not in self.originals:
                continue
            if self._knobs[site.file].same(aim.text, read):
                self.made[site] = read

    def is_drift(self, write: Write) -> bool:
        """Whether a write only puts back what was true already."""
        made = self.made.get(write.site)
        return not write.restores and made is not None and self._knobs[write.site.file].same(write.text, made)

    def settle(self, writes: tuple[Write, ...], outcomes: tuple[Outcome, ...]) -> None:
        """Keep account of what was written and what went back."""
        muted = {knob.muted_by: knob.file for knob in self._knobs.values() if knob.muted_by}
        self.originals = still_owed(self.originals, writes, outcomes)
        for write, outcome in zip(writes, outcomes, strict=True):
            if outcome.status is WriteStatus.WRITTEN and self._knobs[write.site.file].reach is not Reach.LEVEL:
                self.made.pop(Site(write.site.cgroup, muted.get(write.site.file, "")), None)
                if write.restores:
                    self.made.pop(write.site, None)
                else:
                    self.made[write.site] = write.text if outcome.kept is None else outcome.kept

    def validate(self, tree: Tree | None) -> None:
        """Every knob this process wrote can be taken back."""
        for site, text in self.made.items():
            is_gone = tree is not None and not tree.has(site.cgroup)
            is_in_our_group = Site(site.cgroup, GROUP) in self.originals
            assert site in self.originals or is_gone or is_in_our_group, f"{site} shows {text!r} and has no original"
        for site in self.originals:
            assert site.file in self._knobs, f"{site} is no knob"

    def _is_anothers(self, site: Site, made: str, read: str, texts: Mapping[Site, str | None]) -> bool:
        knob = self._knobs[site.file]
        if not knob.yields or knob.of_tasks or read.strip() == made.strip() or knob.same(made, read):
            return False
        if knob.muted_by and (texts.get(Site(site.cgroup, knob.muted_by)) or "").strip() == "1":
            return False
        return self._can_go_back(site, read)

    def _can_go_back(self, site: Site, text: str) -> bool:
        try:
            return bool(self._knobs[site.file].inverse(text))
        except InputError:
            return False

    def _is_ours(self, site: Site, text: str) -> bool:
        """A journal is input: only knobs we know, only below the roots, only what can be written back."""
        inside = (site.cgroup + "/").startswith(self._roots) and ".." not in site.cgroup.split("/")
        known = self._knobs.get(site.file)
        at_home = known is not None and (known.reach is Reach.GROUP) == (site.cgroup + "/").startswith(RESCTRL + "/")
        return inside and at_home and self._can_go_back(site, text)
