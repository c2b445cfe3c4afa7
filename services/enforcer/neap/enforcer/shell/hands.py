"""The hands: list, read and write kernel files as told. No decision is made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress

from neap.common.errors import PortError, Vanished
from neap.common.host.port import HostFs, Unsupported
from neap.common.host.turn import in_turn
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
        return await in_turn(self._host, lambda: self._observe(asked))

    async def apply(self, asked: Apply) -> tuple[Outcome, ...]:
        """Originals first, then the writes; giving back needs no permission from the journal.

        Raises:
            PortError: the originals could not be stored; nothing was written.
        """
        return await in_turn(self._host, lambda: self._apply(asked))

    def _observe(self, asked: Observe) -> Observed:
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

    def _apply(self, asked: Apply) -> tuple[Outcome, ...]:
        if any(not write.restores for write in asked.writes):
            self._journal.save(asked.originals)
        outcomes = [*self._exchange(asked.ordered), *self._write(asked.loose)]
        with suppress(PortError):  # an entry too many is written back once more, to no harm
            self._journal.save(still_owed(asked.originals, asked.writes, tuple(outcomes)))
        return tuple(outcomes)

    def _is_of_processes(self, file: str) -> bool:
        knob = self._knobs.get(file)
        return knob is not None and knob.reach is Reach.PROCESSES

    def _list(self, *, deep: bool) -> Tree | None:
        """The tree, level by level: one call each."""
        listed = zip(self._roots, self._host.list_all(self._roots), strict=True)
        root, names = next(((root, names) for root, names in listed if names is not None), ("", []))
        if not root:
            return None
        classes = {kind: f"{root}/{name}" for name in names if (kind := class_named(name))}
        folders = {root: names} | self._names(list(classes.values()))
        pods = {uid: f"{at}/{name}" for at, below in folders.items() for name in below if (uid := pod_named(name))}
        inside = self._names(list(pods.values())) if deep else {}
        containers = {at: tuple(f"{at}/{name}" for name in below if is_container(name)) for at, below in inside.items()}
        return Tree(root, classes, pods, containers)

    def _names(self, folders: Sequence[str]) -> dict[str, list[str]]:
        return {at: names or [] for at, names in zip(folders, self._host.list_all(folders), strict=True)}

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

    def _exchange(self, writes: Sequence[Write]) -> list[Outcome]:
        """Writes that depend on each other: after a refusal none is tried."""
        told = self._host.write_all([(f"{w.site.cgroup}/{w.site.file}", w.text) for w in writes], stop=True)
        outcomes = [_outcome(error) for error in told]
        if len(outcomes) < len(writes):
            why = f"not tried, {writes[len(outcomes) - 1].site.cgroup} refused its part of the exchange"
            outcomes += [Outcome(WriteStatus.REFUSED, why)] * (len(writes) - len(outcomes))
        return outcomes

    def _write(self, writes: Sequence[Write]) -> list[Outcome]:
        """Writes that do not depend on each other."""
        plain = [write for write in writes if not self._is_of_processes(write.site.file)]
        told = iter(self._host.write_all([(f"{w.site.cgroup}/{w.site.file}", w.text) for w in plain]))
        return [
            self._write_processes(write) if self._is_of_processes(write.site.file) else _outcome(next(told))
            for write in writes
        ]

    def _write_processes(self, write: Write) -> Outcome:
        """To each process of the cgroup; one that ended meanwhile needs nothing."""
        try:
            pids = _pids(self._host.read(f"{write.site.cgroup}/cgroup.procs"))
        except PortError as error:
            return _outcome(error)
        texts = scatter(write.text, pids).items()
        told = self._host.write_all([(f"/proc/{pid}/{write.site.file}", text) for pid, text in texts])
        return _outcome(next((error for error in told if error and not isinstance(error, Vanished)), None))


def _outcome(error: PortError | None) -> Outcome:
    match error:
        case None:
            return Outcome(WriteStatus.WRITTEN)
        case Vanished():
            return Outcome(WriteStatus.VANISHED, str(error))
        case Unsupported():
            return Outcome(WriteStatus.UNSUPPORTED, f"unsupported: {error}")
        case _:
            return Outcome(WriteStatus.REFUSED, str(error))


def _pids(text: str) -> list[int]:
    return [int(pid) for pid in text.split() if pid.isdigit()]
