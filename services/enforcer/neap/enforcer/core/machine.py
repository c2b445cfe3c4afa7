"""The enforcer's decisions: when to look, what to write, when to give the node back.

    advice ─► Observe ─► Observed ─► plan ─► Apply ─► outcomes ─► Applied on the bus
                ▲ every `reconcile_every` ticks, on changed advice, while something is still to be done

One thing is under way at a time (`_busy`). No advice, lapsed advice and advice that is gone are one state: after
`grace` nothing is wished any more, so everything written goes back to its original by the same path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neap.common.contract.catalogue import ADVICE, NODE_APPLIED
from neap.common.model.advice import Applied, KnobWrite, NodeAdvice, WriteStatus
from neap.common.runtime.machine import (
    Arrived,
    Count,
    Done,
    Event,
    Failed,
    Gone,
    Instruction,
    Publish,
    Stopping,
    Synced,
    Tick,
)
from neap.common.units import Seconds
from neap.enforcer.core.instruction import Apply, Observe, Observed, Originals, Outcome, still_owed
from neap.enforcer.core.knob import Knob, Site
from neap.enforcer.core.kubepods import Tree
from neap.enforcer.core.patience import Patience
from neap.enforcer.core.plan import Aim, Plan, Scene, aims_of, make_plan, to_remember
from neap.enforcer.core.story import applied_line, changes, knob_write, lost_share, not_written
from neap.enforcer.core.wish import NOTHING, wishes_of
from neap.enforcer.settings import Settings

DRIFT: Final = "drift"


class EnforcerMachine:
    """See module docstring. `originals` is what the restore journal held when the process started."""

    def __init__(self, settings: Settings, knobs: Mapping[str, Knob], originals: Originals) -> None:
        self._settings, self._knobs = settings, knobs
        self._originals = {site: text for site, text in originals.items() if self._is_ours(site)}
        self._foreign = len(originals) - len(self._originals)
        self._advice: NodeAdvice | None = None
        self._wishes = NOTHING
        self._lapses_at: Seconds | None = None  # None: before Synced
        self._safe = False  # nothing is wished: the node is, or goes, back
        self._stopped = False
        self._serial = 0
        self._ticks = 0
        self._busy: Observe | Apply | None = None
        self._again = False  # look again as soon as nothing is under way
        self._tree: Tree | None = None
        self._texts: dict[Site, str | None] = {}
        self._aims: dict[Site, Aim] = {}
        self._made: dict[Site, str] = {}  # texts this process made true; another text there is drift
        self._plan = Plan()
        self._settled: Observed | None = None  # as long as the host shows this there is nothing to do
        self._patience = Patience(settings.period, settings.backoff_limit)
        self._told = {site.cgroup for site in self._originals}  # cgroups whose first application is on the trail
        self._unsupported: set[str] = set()  # knobs reported as such
        self._untold: tuple[KnobWrite, ...] = ()  # refused parts of the advice, told with the next Applied

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        if self._stopped and not isinstance(event, Done):
            return ()
        match event:
            case Arrived(at=at, message=NodeAdvice() as advice):
                return self._hear(advice, at)
            case Gone(at=at, channel=channel) if channel is ADVICE:
                self._lose(at)
            case Synced(at=at, channel=channel) if channel is ADVICE:
                return self._sync(at)
            case Tick(at=at, name="reconcile"):
                return self._tick(at)
            case Done(at=at, instruction=Observe() as asked, outcome=Observed() as observed) if asked is self._busy:
                return self._seen(observed, at)
            case Done(at=at, instruction=Apply() as asked, outcome=outcomes) if asked is self._busy:
                return self._written(asked, outcomes, at)
            case Failed(at=at, instruction=instruction, error=error) if instruction is self._busy:
                return self._fail(instruction, error, at)
            case Stopping(at=at):
                return self._stop(at)
        return ()

    def validate(self) -> None:
        """Every knob this process wrote can be taken back."""
        for site, text in self._made.items():
            vanished = self._tree is not None and not self._tree.has(site.cgroup)
            assert site in self._originals or vanished, f"{site} shows {text!r} and has no original"
        for site in self._originals:
            assert site.file in self._knobs, f"{site} is no knob"
        assert not (self._safe and self._wishes.texts), "something is wished although the advice has lapsed"

    # -- advice ------------------------------------------------------------------------------------------------------

    def _hear(self, advice: NodeAdvice, at: Seconds) -> Sequence[Instruction]:
        if advice.node != self._settings.node:
            return (_count("advice_refused", reason="other node"),)
        if advice.at > at + self._settings.grace + self._settings.period:  # it would outdo all advice until then
            return (_count("advice_refused", reason="from the future"),)
        before = self._advice
        if before is not None and (advice.at, advice.seq) <= (before.at, before.seq):
            return ()
        self._advice = advice
        if self._lapses_at is not None:
            self._lapses_at = advice.expires + self._settings.grace
        if before is not None and before.cgroups == advice.cgroups and not self._safe and not self._again:
            return self._applied(at) if self._lapses_at is not None and self._busy is None else ()
        self._safe = False
        self._wishes, self._settled = wishes_of(advice, self._knobs), None
        self._untold = self._wishes.refused
        self._again = True
        counts = [_count("advice_refused", reason=write.knob or "target") for write in self._untold]
        return [*counts, *self._look(at)]

    def _lose(self, at: Seconds) -> None:
        if self._lapses_at is not None:
            self._lapses_at = min(self._lapses_at, at + self._settings.grace)

    def _sync(self, at: Seconds) -> Sequence[Instruction]:
        if self._lapses_at is not None:
            return ()
        self._lapses_at = (at if self._advice is None else self._advice.expires) + self._settings.grace
        counts = [_count("journal_refused", self._foreign)] if self._foreign else []
        return [*counts, *self._look(at)]

    def _tick(self, at: Seconds) -> Sequence[Instruction]:
        self._ticks += 1
        is_round = self._ticks % self._settings.reconcile_every == 0 and (self._wishes.texts or self._originals)
        if is_round or self._is_waiting_for_pods() or self._patience.is_due(at):
            self._again = True
        return self._look(at)

    def _is_waiting_for_pods(self) -> bool:
        """Whether advice names a pod whose cgroup was not there at the last look."""
        tree = self._tree
        return tree is not None and any(
            tree.path_of(cgroup.target) is None for cgroup in self._wishes.cgroups if cgroup.target.startswith("pod/")
        )

    # -- look, plan, write -------------------------------------------------------------------------------------------

    def _look(self, at: Seconds) -> Sequence[Instruction]:
        if self._lapses_at is None or self._busy is not None:
            return ()
        if at > self._lapses_at and not self._safe:
            self._safe, self._again, self._wishes, self._settled = True, True, NOTHING, None
        if not self._again:
            return ()
        self._again = False
        self._serial += 1
        self._busy = Observe(self._serial, tuple(self._wishes.texts), tuple(self._originals))
        return (self._busy,)

    def _seen(self, observed: Observed, at: Seconds) -> Sequence[Instruction]:
        self._busy = None
        if observed.tree is None:
            return (_count("failed", what="no cgroup root"),)
        if observed == self._settled:
            return [*self._applied(at), *self._look(at)]
        tree = self._tree = observed.tree
        self._texts = dict(observed.texts)
        owed = len(self._originals)
        self._originals = {site: text for site, text in self._originals.items() if tree.has(site.cgroup)}
        self._told.intersection_update(tree.pods.values())
        self._aim(tree)
        scene = Scene(tree, self._texts, self._knobs, self._patience.still(self._aims, at), self._exclusive(tree))
        self._plan = make_plan(self._aims, scene)
        for site in self._plan.refused:
            self._patience.refused(site, self._aims[site].text, at)
        self._originals = to_remember(self._plan, scene, self._originals)
        if self._plan.ordered or self._plan.loose or owed != len(self._originals):
            return (self._apply(),)
        if not self._patience.refused_any:
            self._settled = observed
        return [*self._tell_pods((), at), *self._applied(at), *self._look(at)]

    def _aim(self, tree: Tree) -> None:
        why = f"advice {self._seq}"
        why_back = "advice lapsed" if self._safe else "no longer advised"
        aims = aims_of(self._wishes, tree, self._originals, self._knobs, why=why, why_back=why_back)
        self._aims = {
            site: aim._replace(why=DRIFT) if not aim.restores and self._made.get(site) == aim.text else aim
            for site, aim in aims.items()
        }
        self._made = {site: text for site, text in self._made.items() if site in aims and not aims[site].restores}
        self._patience.keep(aims.keys())

    def _exclusive(self, tree: Tree) -> frozenset[str]:
        prefixes = self._settings.exclusive_pools
        paths = (tree.path_of(cgroup.target) for cgroup in self._wishes.cgroups if cgroup.pool.startswith(prefixes))
        return frozenset(path for path in paths if path is not None)

    def _apply(self) -> Apply:
        self._serial += 1
        plan, self._settled = self._plan, None
        self._busy = Apply(self._serial, dict(self._originals), tuple(plan.ordered), tuple(plan.loose))
        return self._busy

    def _written(self, asked: Apply, outcomes: tuple[Outcome, ...], at: Seconds) -> Sequence[Instruction]:
        self._busy = None
        self._originals = still_owed(self._originals, asked.writes, outcomes)
        for write, outcome in zip(asked.writes, outcomes, strict=True):
            if outcome.status is WriteStatus.WRITTEN:
                self._texts[write.site] = write.text
                if write.restores:
                    self._made.pop(write.site, None)
                else:
                    self._made[write.site] = write.text
                self._patience.accepted(write.site)
            elif outcome.status is not WriteStatus.VANISHED:
                self._patience.refused(write.site, self._aims[write.site].text, at)
        told = tuple(knob_write(write, outcome) for write, outcome in zip(asked.writes, outcomes, strict=True))
        counts = [
            _count("writes", by, status=str(status))
            for status in WriteStatus
            if (by := sum(outcome.status is status for outcome in outcomes))
        ]
        if drifted := len({write.site for write in asked.writes if write.why == DRIFT}):
            counts.append(_count("drift", drifted))
        return [*counts, *self._tell_pods(told, at), *self._applied(at, told), *self._look(at)]

    def _fail(self, failed: Instruction, error: str, at: Seconds) -> Sequence[Instruction]:
        """The host cannot be read, or the journal not be stored: then nothing was written."""
        self._busy = None
        if isinstance(failed, Apply):
            texts = {write.site: write.text for write in failed.writes}
            self._untold = tuple(not_written(site, text, WriteStatus.REFUSED, error) for site, text in texts.items())
        return [_count("failed", what=type(failed).__name__), *self._applied(at)]

    # -- giving back -------------------------------------------------------------------------------------------------

    def _stop(self, at: Seconds) -> Sequence[Instruction]:
        """Everything written goes back now, from what is known: there is no time for another look."""
        self._stopped, self._safe, self._wishes = True, True, NOTHING
        if not self._originals:
            return self._applied(at)
        root = next(r for r in self._settings.cgroup_roots if next(iter(self._originals)).cgroup.startswith(r))
        tree = self._tree or Tree(root, {}, {})
        self._aims = aims_of(NOTHING, tree, self._originals, self._knobs, why="", why_back="enforcer stops")
        self._plan = make_plan(self._aims, Scene(tree, self._texts, self._knobs, blind=True))
        return (self._apply(),)

    # -- telling -----------------------------------------------------------------------------------------------------

    @property
    def _seq(self) -> int:
        return self._advice.seq if self._advice is not None else 0

    def _applied(self, at: Seconds, writes: tuple[KnobWrite, ...] = ()) -> Sequence[Instruction]:
        node = self._settings.node
        refused = [
            not_written(site, self._aims[site].text, WriteStatus.REFUSED, why)
            for site, why in self._plan.refused.items()
        ]
        lacking = {site.file: site for site in self._plan.unsupported if site.file not in self._unsupported}
        self._unsupported.update(lacking)
        unsupported = [
            not_written(site, self._aims[site].text, WriteStatus.UNSUPPORTED, f"unsupported: no {file} in this cgroup")
            for file, site in lacking.items()
        ]
        told = (*self._untold, *refused, *unsupported, *writes)
        self._untold, self._plan = (), Plan()
        restored = self._safe and not self._originals
        message = Applied(at=at, source="enforcer", node=node, advice_seq=self._seq, writes=told, restored=restored)
        return (Publish(NODE_APPLIED.at(node=node), message),)

    def _tell_pods(self, writes: tuple[KnobWrite, ...], at: Seconds) -> list[Instruction]:
        """A pod's trail: the first time its advice is true, and when it loses a good part of its CPUs."""
        told: list[Instruction] = []
        for cgroup in self._wishes.cgroups:
            path = self._tree.path_of(cgroup.target) if self._tree is not None else None
            if path is None or cgroup.about is None:
                continue
            changed, sets = changes(writes, path), self._plan.sets.get(path)
            first = path not in self._told
            shrinks = "cpuset.cpus" in changed and lost_share(sets) >= self._settings.shrink_told
            if first or shrinks:
                self._told.add(path)
                line = applied_line(cgroup, changed, sets, at=at, node=self._settings.node, seq=self._seq, first=first)
                told.append(line)
        return told

    def _is_ours(self, site: Site) -> bool:
        """A journal is input: only knobs we know, only below the roots."""
        roots = tuple(root + "/" for root in self._settings.cgroup_roots)
        inside = (site.cgroup + "/").startswith(roots) and ".." not in site.cgroup.split("/")
        return inside and site.file in self._knobs


def _count(metric: str, by: float = 1.0, /, **labels: str) -> Count:
    return Count(f"neap_enforcer_{metric}_total", by, labels)
