"""The hands: list, read and write kernel files as told. No decision is made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from neap.common.errors import PortError, Vanished
from neap.common.host.port import HostFs, Unsupported
from neap.common.model.advice import WriteStatus
from neap.enforcer.core.instruction import Apply, Observe, Observed, Outcome, Write, still_owed
from neap.enforcer.core.knob import Knob, Reach, Site
from neap.enforcer.core.kubepods import Tree, class_named, is_container, pod_named
from neap.enforcer.core.processes import gather, scatter
from neap.enforcer.core.wish import sites_to_read
from neap.enforcer.shell.journal import RestoreJournal


class Hands:
    """Executes Observe and Apply on one host."""

    def __init__(self, host: HostFs, journal: RestoreJournal, knobs: Mapping[str, Knob], roots: Sequence[str]) -> None:
        self._host, self._journal, self._knobs, self._roots = host, journal, knobs, roots

    async def observe(self, asked: Observe) -> Observed:
        """List the tree, then one read of everything the plan needs."""
        files = {file for _, file in asked.targets} | {site.file for site in asked.sites}
        tree = self._list(deep=any(self._is_of_processes(file) for file in files))
        if tree is None:
            return Observed(None, {})
        sites = sites_to_read(asked.targets, asked.sites, tree, self._knobs)
        plain = [site for site in sites if not self._is_of_processes(site.file)]
        texts = self._host.read_all([f"{site.cgroup}/{site.file}" for site in plain])
        read: dict[Site, str | None] = dict(zip(plain, texts, strict=True))
        read.update(self._of_processes([site for site in sites if self._is_of_processes(site.file)]))
        return Observed(tree, read)

    async def apply(self, asked: Apply) -> tuple[Outcome, ...]:
        """Originals first, then the writes; giving back needs no permission from the journal.

        Raises:
            PortError: the originals could not be stored; nothing was written.
        """
        if any(not write.restores for write in asked.writes):
            self._journal.save(asked.originals)
        outcomes: list[Outcome] = []
        refused = ""
        for write in asked.ordered:
            outcome = Outcome(WriteStatus.REFUSED, refused) if refused else self._write(write)
            if outcome.status is WriteStatus.REFUSED and not refused:
                refused = f"not tried, {write.site.cgroup} refused its part of the exchange"
            outcomes.append(outcome)
        outcomes += [self._write(write) for write in asked.loose]
        with suppress(PortError):  # an entry too many is written back once more, to no harm
            self._journal.save(still_owed(asked.originals, asked.writes, tuple(outcomes)))
        return tuple(outcomes)

    def _is_of_processes(self, file: str) -> bool:
        knob = self._knobs.get(file)
        return knob is not None and knob.reach is Reach.PROCESSES

    def _list(self, *, deep: bool) -> Tree | None:
        root = next((root for root in self._roots if self._host.exists(root)), None)
        if root is None:
            return None
        names = self._names(root)
        classes = {kind: f"{root}/{name}" for name in names if (kind := class_named(name))}
        pods: dict[str, str] = {}
        for folder in (root, *classes.values()):
            listed = names if folder == root else self._names(folder)
            pods.update((uid, f"{folder}/{name}") for name in listed if (uid := pod_named(name)))
        containers = {pod: self._containers(pod) for pod in pods.values()} if deep else {}
        return Tree(root, classes, pods, containers)

    def _names(self, folder: str) -> list[str]:
        try:
            return self._host.list(folder)
        except Vanished:
            return []

    def _containers(self, pod: str) -> tuple[str, ...]:
        return tuple(f"{pod}/{name}" for name in self._names(pod) if is_container(name))

    def _of_processes(self, sites: Sequence[Site]) -> dict[Site, str | None]:
        """What the processes of each site show; two reads for all of them, however many there are."""
        listed = self._host.read_all([f"{site.cgroup}/cgroup.procs" for site in sites])
        asked = [(site, pid) for site, text in zip(sites, listed, strict=True) for pid in _pids(text or "")]
        texts = self._host.read_all([f"/proc/{pid}/{site.file}" for site, pid in asked])
        shown: dict[Site, dict[int, str]] = {site: {} for site in sites}
        for (site, pid), text in zip(asked, texts, strict=True):
            if text:
                shown[site][pid] = text
        return {site: None if text is None else gather(shown[site]) for site, text in zip(sites, listed, strict=True)}

    def _write(self, write: Write) -> Outcome:
        site = write.site
        try:
            if self._is_of_processes(site.file):
                pids = _pids(self._host.read(f"{site.cgroup}/cgroup.procs"))
                for pid, text in scatter(write.text, pids).items():
                    with suppress(Vanished):  # it ended meanwhile
                        self._host.write(f"/proc/{pid}/{site.file}", text)
            else:
                self._host.write(f"{site.cgroup}/{site.file}", write.text)
        except Vanished as error:
            return Outcome(WriteStatus.VANISHED, str(error))
        except Unsupported as error:
            return Outcome(WriteStatus.UNSUPPORTED, f"unsupported: {error}")
        except PortError as error:
            return Outcome(WriteStatus.REFUSED, str(error))
        return Outcome(WriteStatus.WRITTEN)


def _pids(text: str) -> list[int]:
    return [int(pid) for pid in text.split() if pid.isdigit()]
