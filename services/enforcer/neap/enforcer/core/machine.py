"""The enforcer's decisions: when to look, what to write, when to give the node back.

    advice ─► Observe ─► Observed ─► plan ─► Apply ─► outcomes ─► Applied on the bus
                ▲ every `reconcile_every` ticks, on changed advice, when a cgroup comes or goes, while work is left

One thing is under way at a time (`_busy`). Which advice holds is core/standing.py's business, what is to be written
core/works.py's, what this kernel offers core/ladder.py's, what was said core/teller.py's. When no advice holds nothing
is wished any more, so everything written goes back to its original by the same path.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neap.common.contract.catalogue import ADVICE, DEVICES, ENFORCEMENT
from neap.common.host.port import Changed
from neap.common.model.advice import KnobWrite, NodeAdvice, WriteStatus
from neap.common.model.device import DeviceState
from neap.common.model.enforcement import Rung
from neap.common.runtime.machine import (
    Arrived,
    Count,
    Done,
    Event,
    Failed,
    Gone,
    Heard,
    Instruction,
    Put,
    Stopping,
    Synced,
    Tick,
)
from neap.common.units import Seconds
from neap.enforcer.core.instruction import (
    Apply,
    Observe,
    Observed,
    Originals,
    Outcome,
    Probe,
    Probed,
    RungFound,
    TellRuntime,
    Watched,
    WatchFolders,
)
from neap.enforcer.core.knob import Knob, Reach, Site
from neap.enforcer.core.kubepods import Tree
from neap.enforcer.core.ladder import Ladder
from neap.enforcer.core.runtime import Environments, environments
from neap.enforcer.core.standing import Standing
from neap.enforcer.core.story import not_written
from neap.enforcer.core.teller import Teller
from neap.enforcer.core.wish import NOTHING, Wishes, wishes_of
from neap.enforcer.core.works import DRIFT, Works
from neap.enforcer.nri.model import LeftAlone
from neap.enforcer.settings import Settings

TELLING_FILES: Final = ("cgroup.events", "cgroup.procs")  # announced, or written, when processes move in


class EnforcerMachine:
    """See module docstring. `originals` is what the restore journal held when the process started."""

    def __init__(self, settings: Settings, knobs: Mapping[str, Knob], originals: Originals) -> None:
        self._settings, self._knobs = settings, knobs
        self._standing = Standing(settings.node, settings.grace, settings.period)
        self._ladder = Ladder(knobs)
        self._works = Works(settings, knobs, originals)
        told = (site.cgroup for site in self._works.debt.originals)
        self._teller = Teller(settings.node, settings.repeat_every, told)
        self._wishes: Wishes = NOTHING
        self._wished: tuple[tuple[str, str], ...] = ()  # its targets and files, without levels
        self._told_in_vain: Wishes = NOTHING  # told although nothing can be written
        self._stopped = False
        self._serial = self._ticks = 0
        self._busy: Probe | Observe | Apply | None = None
        self._probe = True  # look at the kernel first
        self._again = False  # look at the cgroups as soon as nothing is under way
        self._fresh = True  # and at their tasks
        self._environments: Environments = {}
        self._told_runtime: Wishes | None = None  # None: it is to be told again
        self._retell = False  # at the next tick
        self._watched: tuple[str, ...] = ()
        self._watch_again = False  # a watched directory may have gone and come

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        said = [*self._decide(event), *self._tell_runtime()]
        if not self._standing.is_synced or not self._ladder.is_probed:
            return said
        stance, why = self._standing.told()
        return [*said, *self._teller.enforcement(self._ladder.told(self._settings.node, event.at, stance, why))]

    def validate(self) -> None:
        """Every knob this process wrote can be taken back."""
        self._works.debt.validate(self._works.tree)
        assert not (self._standing.is_safe and self._wishes.texts), "something is wished although no advice holds"

    def wished(self, target: str) -> Mapping[str, str]:
        """What the advice that holds asks of one target, by kernel file; for doors other than the cgroups'."""
        return {file: text for (name, file), text in self._wishes.texts.items() if name == target}

    def environment(self, uid: str, container: str) -> Mapping[str, str]:
        """The variables that limit a container's shares of cards."""
        return self._environments.get((uid, container), {})

    def _decide(self, event: Event) -> Sequence[Instruction]:
        if self._stopped and not isinstance(event, Done | Failed):
            return ()
        match event:
            case Arrived(at=at, message=NodeAdvice() as advice):
                return self._hear(advice, at)
            case Gone(at=at, channel=channel) if channel is ADVICE:
                self._standing.withdraw(at)
            case Synced(at=at, channel=channel) if channel is ADVICE:
                return self._sync(at)
            case Tick(at=at, name="reconcile"):
                return self._tick(at)
            case Heard(at=at, what=Changed()):
                return self._stirred(at)
            case Arrived(message=DeviceState() as state):
                self._environments = environments(state)
            case Gone(channel=channel) if channel is DEVICES:
                self._environments = {}
            case Heard(what=RungFound() as found):
                self._ladder.found(found)
                self._told_runtime = None
            case Heard(what=LeftAlone()):
                return [_count("left_alone")]
            case Done(instruction=TellRuntime(), outcome=refused):
                return [_count("runtime_refused", len(refused))] if refused else ()
            case Failed(instruction=TellRuntime()):
                self._retell = True
                return [_count("failed", what="TellRuntime")]
            case Done(outcome=Watched(refused=refused)):
                return [_count("unwatched", len(refused))] if refused else ()
            case Done(at=at, instruction=asked, outcome=outcome) if asked is self._busy:
                return self._done(asked, outcome, at)
            case Failed(instruction=Put(key=key)) if key.channel is ENFORCEMENT:
                self._teller.forget_enforcement()
            case Failed(at=at, instruction=instruction, error=error) if instruction is self._busy:
                return self._fail(instruction, error, at)
            case Stopping(at=at):
                return self._stop(at)
        return ()

    def _done(self, asked: Instruction, outcome: object, at: Seconds) -> Sequence[Instruction]:
        self._busy = None
        match asked, outcome:
            case Probe(), Probed() as found:
                return self._probed(found, at)
            case Observe(), Observed() as observed:
                return self._seen(observed, at)
            case Apply(), tuple() as outcomes:
                return self._written(asked, outcomes, at)
        return ()

    # -- advice ------------------------------------------------------------------------------------------------------

    def _hear(self, advice: NodeAdvice, at: Seconds) -> Sequence[Instruction]:
        if reason := self._standing.refusal(advice, at):
            return (_count("advice_refused", reason=reason),)
        if not self._standing.is_news(advice):
            return ()
        before, was_safe = self._standing.advice, self._standing.is_safe
        self._standing.follow(advice)
        is_same = before is not None and (before.cgroups, before.resctrl) == (advice.cgroups, advice.resctrl)
        if is_same and not was_safe and not self._again:
            self._order()
            self._again = bool(self._works.offload.orders)
            return self._look(at) or (self._applied(at) if self._standing.is_synced and self._busy is None else ())
        self._wish(advice)
        self._teller.add(self._wishes.refused)
        counts = [_count("advice_refused", reason=write.knob or "target") for write in self._wishes.refused]
        return [*counts, *self._look(at)]

    def _wish(self, advice: NodeAdvice) -> None:
        """What is to be true from now on; what this kernel lacks is said once."""
        self._wishes = wishes_of(advice, self._knobs, self._ladder.lacking)
        self._wished = tuple(key for key in self._wishes.texts if not self._is_level(key[1]))
        self._again = self._fresh = True
        self._works.stir()
        self._order()
        for file, (target, text) in self._wishes.lacking.items():
            self._tell_lacking(Site(target, file), text, self._ladder.lacking[file])

    def _order(self) -> None:
        levels = {key: text for key, text in self._wishes.texts.items() if self._is_level(key[1])}
        self._works.offload.order(levels, self._standing.seq)

    def _is_level(self, file: str) -> bool:
        return self._knobs[file].reach is Reach.LEVEL

    def _sync(self, at: Seconds) -> Sequence[Instruction]:
        if self._standing.is_synced:
            return ()
        self._standing.sync(at)
        self._again = True
        foreign = self._works.debt.foreign
        return [*([_count("journal_refused", foreign)] if foreign else []), *self._look(at)]

    def _tick(self, at: Seconds) -> Sequence[Instruction]:
        self._ticks += 1
        if self._retell:
            self._retell, self._told_runtime = False, None
        is_in_vain = self._is_wishing and not self._ladder.can_write
        self._probe |= is_in_vain or self._ticks % self._settings.probe_every == 0
        is_round = self._ticks % self._settings.reconcile_every == 0 and self._is_wishing
        is_special = self._works.offload.orders or self._is_waiting_for_pods() or self._works.patience.is_due(at)
        if is_round or is_special:
            self._again = True
        self._fresh |= bool(is_special) or self._ticks % self._settings.tasks_every == 0
        return self._look(at)

    def _stirred(self, at: Seconds) -> Sequence[Instruction]:
        """A cgroup came or went, or a process moved into one."""
        self._watch_again = self._fresh = True
        self._again |= self._is_wishing
        self._probe |= not self._ladder.can_write
        return self._look(at)

    @property
    def _is_wishing(self) -> bool:
        """Whether there is anything to be kept true, or to be given back."""
        return bool(self._wishes.texts or self._works.debt.originals)

    def _is_waiting_for_pods(self) -> bool:
        """Whether advice names a pod whose cgroup was not there at the last look."""
        tree = self._works.tree
        return tree is not None and any(
            tree.path_of(cgroup.target) is None for cgroup in self._wishes.cgroups if cgroup.target.startswith("pod/")
        )

    # -- look, plan, write -------------------------------------------------------------------------------------------

    def _look(self, at: Seconds) -> Sequence[Instruction]:
        if not self._standing.is_synced or self._busy is not None or self._stopped:
            return ()
        if self._standing.lapse(at):
            self._give_back()
        if self._probe:
            self._serial, self._probe = self._serial + 1, False
            self._busy = Probe(self._serial)
        elif self._again:
            self._again = False
            self._busy = self._observe()
        else:
            return ()
        return (self._busy,)

    def _observe(self) -> Observe:
        self._serial += 1
        fresh, self._fresh = self._fresh or self._stopped, False
        return Observe(self._serial, self._wished + self._works.offload.orders, self._works.debt.sites, fresh)

    def _give_back(self) -> None:
        """Nothing is wished any more."""
        self._again, self._fresh, self._wishes, self._wished = True, True, NOTHING, ()
        self._works.stir()
        self._works.offload.order({}, self._standing.seq)

    def _probed(self, found: Probed, at: Seconds) -> Sequence[Instruction]:
        lacked = self._ladder.lacking
        self._ladder.probed(found)
        if lacked != self._ladder.lacking and self._wishes is not NOTHING and self._standing.advice is not None:
            self._wish(self._standing.advice)
        if found.root:
            return self._look(at)
        return [_count("failed", what="no cgroup root"), *self._watch(None), *self._applied(at)]

    def _seen(self, observed: Observed, at: Seconds) -> Sequence[Instruction]:
        if observed.tree is None:
            self._probe = True
            return [_count("failed", what="no cgroup root"), *self._applied(at)]
        watch = self._watch(observed.tree)
        if self._works.is_settled(observed):
            return [*watch, *self._applied(at), *self._look(at)]
        why_back = "no longer advised"
        if self._standing.is_safe:
            why_back = "enforcer stops" if self._stopped else "advice lapsed"
        why = f"advice {self._standing.seq}"
        is_work = self._works.lay_out(self._wishes, observed, at, why=why, why_back=why_back)
        self._teller.add(self._works.not_done())
        for file, site in self._works.lacked().items():
            self._tell_lacking(site, self._works.text_for(site), f"no {file} in this cgroup")
        if is_work and (self._ladder.can_write or self._stopped):
            return [*watch, self._apply()]
        if is_work:
            self._tell_in_vain()
        return [*watch, *self._tell_pods((), at), *self._applied(at), *self._look(at)]

    def _watch(self, tree: Tree | None) -> Sequence[Instruction]:
        """Be told of what comes and goes; who is watched for the first time may have changed before."""
        above = (root.rpartition("/")[0] for root in self._settings.cgroup_roots)
        folders = tuple(dict.fromkeys(above)) if tree is None else tree.folders()
        if self._stopped or (folders == self._watched and not self._watch_again):
            return ()
        if folders != self._watched and tree is not None:
            self._again = self._fresh = True
        self._watched, self._watch_again = folders, False
        return (WatchFolders(folders, TELLING_FILES if tree is not None and tree.containers else ()),)

    def _apply(self) -> Apply:
        self._serial += 1
        self._busy = self._works.apply(self._serial)
        return self._busy

    def _written(self, asked: Apply, outcomes: tuple[Outcome, ...], at: Seconds) -> Sequence[Instruction]:
        self._fresh = True
        told = self._works.settle(asked, outcomes, at)
        self._teller.add(told)
        self._probe |= any(outcome.status is WriteStatus.REFUSED for outcome in outcomes)  # is it the right to write?
        counts = [
            _count("writes", by, status=str(status))
            for status in WriteStatus
            if (by := sum(write.status is status for write in told))
        ]
        if drifted := len({write.site for write in asked.writes if write.why == DRIFT}):
            counts.append(_count("drift", drifted))
        return [*counts, *self._tell_pods(told, at), *self._applied(at), *self._look(at)]

    def _tell_runtime(self) -> Sequence[Instruction]:
        """Once the pods' cgroups are as advised, their containers follow."""
        if not self._ladder.works(Rung.NRI) or self._busy is not None or self._wishes is self._told_runtime:
            return ()
        self._told_runtime = self._wishes
        self._serial += 1
        return (TellRuntime(self._serial),)

    def _fail(self, failed: Instruction, error: str, at: Seconds) -> Sequence[Instruction]:
        """The host cannot be read, or the journal not be stored: then nothing was written."""
        self._busy = None
        count = _count("failed", what=type(failed).__name__)
        if isinstance(failed, Probe):
            self._probe = True
            self._ladder.failed(error)
        if isinstance(failed, Observe) and self._stopped and self._works.put_back_blindly():
            return [count, self._apply()]
        if isinstance(failed, Apply):
            texts = {write.site: write.text for write in failed.writes}
            self._teller.add(not_written(site, text, WriteStatus.REFUSED, error) for site, text in texts.items())
        return [count, *self._applied(at)]

    # -- giving back -------------------------------------------------------------------------------------------------

    def _stop(self, at: Seconds) -> Sequence[Instruction]:
        """Everything written goes back now; one look, so that nothing of ours stays on what started meanwhile."""
        self._standing.stop(at)
        self._give_back()
        self._stopped = True
        if not self._works.debt.originals:
            return self._applied(at)
        self._busy = self._observe()
        return (self._busy,)

    # -- telling -----------------------------------------------------------------------------------------------------

    def _applied(self, at: Seconds) -> Sequence[Instruction]:
        restored = self._standing.is_safe and not self._works.debt.originals
        return self._teller.applied(at, self._standing.seq, restored=restored)

    def _tell_pods(self, writes: Sequence[KnobWrite], at: Seconds) -> Sequence[Instruction]:
        tree, plan, seq = self._works.tree, self._works.plan, self._standing.seq
        if tree is None or not self._ladder.can_write:
            return ()
        shrink = self._settings.shrink_told
        return self._teller.pods(self._wishes.cgroups, tree, plan, writes, at=at, seq=seq, shrink_told=shrink)

    def _tell_lacking(self, site: Site, text: str, why: str) -> None:
        if self._ladder.met(site.file, why):
            self._teller.add([not_written(site, text, WriteStatus.UNSUPPORTED, f"unsupported: {why}")])

    def _tell_in_vain(self) -> None:
        """What would be written if it could be; once for each advice."""
        if self._wishes is self._told_in_vain:
            return
        self._told_in_vain = self._wishes
        texts = {write.site: write.text for write in (*self._works.plan.ordered, *self._works.plan.loose)}
        why = f"unsupported: {self._ladder.why_not}"
        self._teller.add(not_written(site, text, WriteStatus.UNSUPPORTED, why) for site, text in texts.items())


def _count(metric: str, by: float = 1.0, /, **labels: str) -> Count:
    return Count(f"neap_enforcer_{metric}_total", by, labels)
