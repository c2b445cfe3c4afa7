"""The hands: list, read and write kernel files as told. No decision is made here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Final, NamedTuple

from neap.common.errors import PortError, Vanished
from neap.common.host.port import HostFs, Unsupported
from neap.common.host.turn import in_turn
from neap.common.host.watch import FolderWatch
from neap.common.model.advice import WriteStatus
from neap.enforcer.core.instruction import (
    Apply,
    Observe,
    Observed,
    Outcome,
    Watched,
    WatchFolders,
    Write,
    still_owed,
)
from neap.enforcer.core.knob import Knob, Reach, Site
from neap.enforcer.core.kubepods import Tree, class_named, containers_in, pod_named
from neap.enforcer.core.rdt import ABSENT, GROUP, PRESENT
from neap.enforcer.core.wish import sites_to_read
from neap.enforcer.shell.journal import RestoreJournal
from neap.enforcer.shell.tasks import Tasks

LESS_THAN_ASKED: Final = "(EAGAIN)"


class _Reading(NamedTuple):
    """What was read last time, and what for."""

    targets: tuple[tuple[str, str], ...]
    sites: tuple[Site, ...]
    tree: Tree
    plain: list[Site]
    paths: list[str]
    others: dict[Site, str | None]  # what tasks and groups showed


class Hands:
    """Executes Observe, Apply and WatchFolders on one host."""

    def __init__(
        self,
        host: HostFs,
        journal: RestoreJournal,
        knobs: Mapping[str, Knob],
        roots: Sequence[str],
        watch: FolderWatch | None = None,
    ) -> None:
        self._host, self._journal, self._knobs, self._roots, self._watch = host, journal, knobs, roots, watch
        self._tasks = Tasks(host, knobs)
        self._last: _Reading | None = None

    async def observe(self, asked: Observe) -> Observed:
        """List the tree, then one read of everything the plan needs."""
        return await in_turn(self._host, lambda: self._observe(asked))

    async def apply(self, asked: Apply) -> tuple[Outcome, ...]:
        """Originals first, then the writes; giving back needs no permission from the journal.

        Raises:
            PortError: the originals could not be stored; nothing was written.
        """
        return await in_turn(self._host, lambda: self._apply(asked))

    async def watch(self, asked: WatchFolders) -> Watched:
        """From now on be told of these."""
        return Watched({} if self._watch is None else self._watch.follow(asked.folders, asked.files))

    def _observe(self, asked: Observe) -> Observed:
        last = self._last
        if not asked.fresh and last is not None and (last.targets, last.sites) == (asked.targets, asked.sites):
            now = self._list(deep=False, with_groups=False)
            if now is not None and now.is_like(last.tree):
                return self._read(last)
        reaches = {self._knobs[file].reach for _, file in asked.targets} | {
            self._knobs[site.file].reach for site in asked.sites
        }
        tree = self._list(
            deep=bool(reaches & {Reach.PROCESSES, Reach.TASKS}), with_groups=bool(reaches & {Reach.TASKS, Reach.GROUP})
        )
        if tree is None:
            return Observed(None, {})
        if last is not None and last.tree == tree:
            tree = last.tree  # it remembers where everything is
        if last is None or (last.targets, last.sites, last.tree) != (asked.targets, asked.sites, tree):
            last = self._last = self._planned(asked, tree)
        for site in last.others:
            if site.file == GROUP:
                last.others[site] = None if tree.groups is None else PRESENT if tree.has(site.cgroup) else ABSENT
        last.others.update(self._tasks.show([site for site in last.others if site.file != GROUP]))
        return self._read(last)

    def _read(self, last: _Reading) -> Observed:
        texts = zip(last.plain, self._host.read_all(last.paths), strict=True)
        return Observed(last.tree, dict(texts) | last.others)

    def _planned(self, asked: Observe, tree: Tree) -> _Reading:
        """What to read; the same as long as advice, tree and debt are the same."""
        sites = sites_to_read(asked.targets, asked.sites, tree, self._knobs)
        others = [site for site in sites if site.file == GROUP or self._is_of_tasks(site)]
        plain = [site for site in sites if site.file != GROUP and not self._is_of_tasks(site)]
        paths = [f"{site.cgroup}/{site.file}" for site in plain]
        return _Reading(asked.targets, asked.sites, tree, plain, paths, dict.fromkeys(others))

    def _apply(self, asked: Apply) -> tuple[Outcome, ...]:
        if any(not write.restores for write in asked.writes):
            self._journal.save(asked.originals)
        outcomes = [*self._exchange(asked.ordered), *self._write(asked.loose)]
        with suppress(PortError):  # an entry too many is written back once more, to no harm
            self._journal.save(still_owed(asked.originals, asked.writes, tuple(outcomes)))
        return self._read_back(asked.writes, outcomes)

    def _is_of_tasks(self, site: Site) -> bool:
        knob = self._knobs.get(site.file)
        return knob is not None and knob.of_tasks

    def _list(self, *, deep: bool, with_groups: bool) -> Tree | None:
        """The tree, level by level: one call each."""
        listed = zip(self._roots, self._host.list_all(self._roots), strict=True)
        root, names = next(((root, names) for root, names in listed if names is not None), ("", []))
        if not root:
            return None
        classes = {kind: f"{root}/{name}" for name in names if (kind := class_named(name))}
        folders = {root: names} | self._names(list(classes.values()))
        pods = {uid: f"{at}/{name}" for at, below in folders.items() for name in below if (uid := pod_named(name))}
        inside = self._names(list(pods.values())) if deep else {}
        containers = {at: containers_in(at, below) for at, below in inside.items()}
        return Tree(root, classes, pods, containers, self._tasks.groups() if with_groups else None)

    def _names(self, folders: Sequence[str]) -> dict[str, list[str]]:
        return {at: names or [] for at, names in zip(folders, self._host.list_all(folders), strict=True)}

    def _exchange(self, writes: Sequence[Write]) -> list[Outcome]:
        """Writes that depend on each other: after one is refused, and its fallback as well, none is tried."""
        outcomes: list[Outcome] = []
        left = list(writes)
        while left:
            told = self._host.write_all([(f"{w.site.cgroup}/{w.site.file}", w.text) for w in left], stop=True)
            outcomes += map(_outcome, told)
            last = left[len(told) - 1]
            del left[: len(told)]
            if outcomes[-1].status is WriteStatus.REFUSED and last.fallback:
                outcomes[-1] = self._fall_back(last)
            if outcomes[-1].status is WriteStatus.REFUSED:
                why = f"not tried, {last.site.cgroup} refused its part of the exchange"
                return outcomes + [Outcome(WriteStatus.REFUSED, why)] * len(left)
        return outcomes

    def _fall_back(self, write: Write) -> Outcome:
        """What comes nearest to a set that was refused."""
        [error] = self._host.write_all([(f"{write.site.cgroup}/{write.site.file}", write.fallback)])
        if error is not None:
            return _outcome(error)
        why = f"the kernel takes no empty set while tasks run, so it names all there is ({write.fallback})"
        return Outcome(WriteStatus.WRITTEN, why, kept=write.fallback)

    def _write(self, writes: Sequence[Write]) -> list[Outcome]:
        """Writes that do not depend on each other, in their order; neighbours in one call."""
        outcomes: list[Outcome] = []
        for is_plain, run in groupby(writes, key=self._is_plain):
            together = list(run)
            outcomes += self._write_plain(together) if is_plain else map(self._write_other, together)
        return outcomes

    def _is_plain(self, write: Write) -> bool:
        return write.site.file != GROUP and not self._is_of_tasks(write.site)

    def _write_other(self, write: Write) -> Outcome:
        return self._turn_group(write) if write.site.file == GROUP else _outcome(self._tasks.write(write))

    def _write_plain(self, writes: Sequence[Write]) -> list[Outcome]:
        """Each in as many pieces as its kernel file wants; the first piece that is refused tells for all."""
        pieces = [self._knobs[write.site.file].pieces(write.text) for write in writes]
        texts = [
            (f"{w.site.cgroup}/{w.site.file}", piece) for w, cut in zip(writes, pieces, strict=True) for piece in cut
        ]
        told = iter(self._host.write_all(texts))
        outcomes = []
        for write, cut in zip(writes, pieces, strict=True):
            error = next((error for error in [next(told) for _ in cut] if error is not None), None)
            if self._knobs[write.site.file].reach is Reach.LEVEL and LESS_THAN_ASKED in str(error):
                outcomes.append(Outcome(WriteStatus.WRITTEN, f"reclaimed less than asked: {error}"))
            else:
                outcomes.append(_outcome(error))
        return outcomes

    def _turn_group(self, write: Write) -> Outcome:
        """Make a resctrl group, or take it away."""
        act = self._host.make_folder if write.text == PRESENT else self._host.remove_folder
        try:
            act(write.site.cgroup)
        except PortError as error:
            return _outcome(error)
        return Outcome(WriteStatus.WRITTEN)

    def _read_back(self, writes: Sequence[Write], outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
        """What the kernel made of what it took; one read for all."""
        sites = list(
            dict.fromkeys(
                write.site
                for write, outcome in zip(writes, outcomes, strict=True)
                if outcome.status is WriteStatus.WRITTEN and not write.restores and self._can_be_read(write.site)
            )
        )
        kept = dict(zip(sites, self._host.read_all([f"{site.cgroup}/{site.file}" for site in sites]), strict=True))
        return tuple(
            outcome._replace(kept=kept[write.site]) if write.site in kept else outcome
            for write, outcome in zip(writes, outcomes, strict=True)
        )

    def _can_be_read(self, site: Site) -> bool:
        knob = self._knobs[site.file]
        return not knob.of_tasks and knob.reach is not Reach.LEVEL and site.file != GROUP


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
