"""The evictor's decisions: at every report, is a rule beyond its threshold for long enough, and who helps most.

An eviction is a command with an id, f"{uid}.{attempt}.evict": stored once however often it is sent, and whoever
executes it ends that attempt and no other, so a repetition is harmless. The victim counts as gone until the ledger
releases it. If it does not within grace + `confirm_after` reports, the command is taken for lost: the guest counts
again, and if it is chosen again the id gets a number (".2"), because the first one would not be stored twice.

What the scheduler asks for (Preemption) is held to the same rights, budget and patience, and comes after own rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from neap.common.contract.catalogue import EVICTIONS, HEADROOM, PLACEMENTS
from neap.common.errors import SettingsError
from neap.common.model.advice import Headroom
from neap.common.model.lifecycle import Eviction, Preemption
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Released
from neap.common.model.protection import may_leave
from neap.common.model.usage import ContainerUsage, NodeUsage, completed
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Count, Decide, Emit, Event, Gone, Instruction, Synced
from neap.common.units import Seconds
from neap.evictor.core.budget import Budget, fewest
from neap.evictor.core.guests import Resident, fold, measured
from neap.evictor.core.hold import Held, Hold
from neap.evictor.core.requests import Requests
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.story import Choice, command_for, command_of, line_of
from neap.evictor.core.view import Guest, Level, Victim, View
from neap.evictor.settings import Settings


class EvictorMachine:
    """See module docstring."""

    def __init__(self, settings: Settings, rules: Mapping[str, Rule]) -> None:
        self._settings = settings
        self._rules = _asked(rules, settings)
        self._holds = {name: Hold() for name in self._rules}
        self._budget = Budget(settings.most)
        self._guests: dict[str, Resident] = {}
        self._synced = False
        self._ledger_seq = 0
        self._headroom: Headroom | None = None
        self._heard: Seconds = float("-inf")  # `at` of the newest report
        self._full: NodeUsage | None = None  # the newest that listed every container
        self._stale: set[str] = set()  # inputs said to be too old
        self._leaving: dict[str, Seconds] = {}  # uid -> until when its release is awaited
        self._commands: dict[str, int] = {}  # uid -> commands sent for this attempt
        self._requests = Requests(settings.request_patience)
        self._period: Seconds = 1.0  # of reports

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        match event:
            case Arrived(at=at, message=NodeUsage() as usage):
                return self._report(usage, at)
            case Arrived(message=(Placed() | Released() | Checkpoint()) as entry, seq=seq):
                self._fold(entry, seq)
            case Arrived(at=at, message=Headroom() as headroom):
                said = min(headroom.at, at)  # a clock that runs ahead must not silence what follows
                if headroom.node == self._settings.node and (self._headroom is None or said >= self._headroom.at):
                    self._headroom = msgspec.structs.replace(headroom, at=said)
            case Arrived(at=at, message=Preemption() as asked) if asked.node == self._settings.node:
                self._requests.add(asked, at)
                return self._serve(at)
            case Gone(channel=channel) if channel is HEADROOM:
                self._headroom = None
            case Synced(channel=channel) if channel is PLACEMENTS:
                self._synced = True
        return ()

    def validate(self) -> None:
        """Only guests that are here, reclaimed and unprotected are on their way out."""
        assert self._leaving.keys() <= self._commands.keys() <= self._guests.keys(), "somebody leaves who is not here"
        for uid in self._leaving:
            assert self._may_leave(self._guests[uid]), f"{uid} is leaving, and must not"

    def _may_leave(self, guest: Resident | Guest) -> bool:
        return may_leave(guest.workload, self._settings.protected_labels, self._settings.protected_owners)

    def _fold(self, entry: LedgerEntry, seq: int) -> None:
        if entry.node != self._settings.node or 0 < seq <= self._ledger_seq:
            return
        self._ledger_seq = seq
        before, self._guests = self._guests, fold(self._guests, entry)
        for uid in tuple(self._commands):
            now = self._guests.get(uid)
            is_gone = now is None or now.workload.attempt != before[uid].workload.attempt
            if now is None or is_gone or not self._may_leave(now):
                self._leaving.pop(uid, None)
            if is_gone:
                del self._commands[uid]

    # -- one report --------------------------------------------------------------------------------------------------

    def _report(self, usage: NodeUsage, at: Seconds) -> Sequence[Instruction]:
        then = min(usage.at, at)  # a clock that runs ahead must not silence what follows
        if usage.node != self._settings.node or then <= self._heard:
            return ()
        gap, self._heard = then - self._heard, then
        self._full = self._full if usage.since else usage
        listed = self._full.containers if self._full is not None else usage.containers  # unchanged, for all we know
        usage = completed(usage, self._full) or msgspec.structs.replace(usage, containers=listed)
        period = self._period = usage.period if usage.period > 0 else 1.0
        patience = self._settings.stale_after * period
        if not self._synced:
            return ()
        if at - then > patience:
            return self._say_stale("usage", is_stale=True)
        if gap > patience:
            self._holds = {name: Hold() for name in self._rules}
        said = [*self._say_stale("usage", is_stale=False), *self._give_up(at)]
        view = self._view(usage, at, self._settings.offer_stale_after * period, said)
        due = self._due(view)
        if not due:
            return [*said, *self._serve(at)]
        if self._leaving:
            return [*said, _held_back("unconfirmed")]
        left = self._budget.left(at, self._settings.window * period)
        if left <= 0:
            return [*said, _held_back("budget")]
        choice = self._choose(view, due, left)
        if choice is None:
            return [*said, _held_back("nobody may leave")]
        for victim in choice.victims:
            said.extend(self._evict(victim, choice, usage, at))
        return said

    def _say_stale(self, what: str, *, is_stale: bool) -> list[Instruction]:
        """Counted when it becomes so, not at every report."""
        if is_stale == (what in self._stale):
            return []
        self._stale.symmetric_difference_update({what})
        return [Count("neap_evictor_stale_total", labels={"input": what})] if is_stale else []

    def _give_up(self, at: Seconds) -> list[Instruction]:
        late = [uid for uid, until in self._leaving.items() if until <= at]
        for uid in late:
            del self._leaving[uid]
        return [Count("neap_evictor_unconfirmed_total", len(late))] if late else []

    def _view(self, usage: NodeUsage, at: Seconds, patience: Seconds, said: list[Instruction]) -> View:
        headroom = self._headroom
        is_stale = headroom is not None and (bool(headroom.stale) or at - headroom.at > patience)
        said.extend(self._say_stale("headroom", is_stale=is_stale))
        containers: dict[str, list[ContainerUsage]] = {}
        for container in usage.containers:
            containers.setdefault(container.uid, []).append(container)
        present: list[Guest] = []
        leaving: list[Guest] = []
        for uid, resident in self._guests.items():
            guest = measured(resident, containers.get(uid, []))
            (leaving if uid in self._leaving else present).append(guest)
        offer = None if headroom is None or is_stale else headroom.offer
        return View(at, usage, tuple(present), tuple(leaving), offer)

    def _due(self, view: View) -> list[tuple[str, Level, Held]]:
        """Levels to act on: hard ones first, then in the order of the rules."""
        due = []
        for name, (rule, settings) in self._rules.items():
            levels = rule.pressure(view, settings)
            due += [(name, level, held) for level, held in self._holds[name].feel(levels, settings, view.at)]
        return sorted(due, key=lambda item: not item[1].hard)

    def _choose(self, view: View, due: Sequence[tuple[str, Level, Held]], left: int) -> Choice | None:
        """The first level for which anybody may leave, and as few as it takes."""
        candidates = [guest for guest in view.guests if self._may_leave(guest)]
        for name, level, held in due:
            ranked = self._rules[name][0].rank(view, level, candidates)
            if victims := fewest(ranked, level.need)[:left]:
                return Choice(name, level, held, ranked, victims)
        return None

    # -- the command -------------------------------------------------------------------------------------------------

    def _serve(self, at: Seconds) -> list[Instruction]:
        """Do what the scheduler asks for, as far as rights and budget allow now."""
        said: list[Instruction] = []
        while self._synced and (asked := self._requests.first(at)) is not None:
            there = self._named(asked)
            if there and all(self._may_leave(guest) for guest in there):
                left = self._budget.left(at, self._settings.window * self._period)
                for guest in there[:left] if not self._leaving else ():
                    command = command_for(guest.workload, asked, self._settings, at)
                    said.extend(self._command(guest.workload, command, f"{asked.beneficiary}.preempt", at))
                break
            self._requests.close()
            said += [_held_back("request for a protected guest")] * bool(there)
        return said

    def _named(self, asked: Preemption) -> list[Resident]:
        """Whom a request means, of those that are still here."""
        named = zip(asked.victims, asked.attempts, strict=True)
        return [
            guest for uid, attempt in named if (guest := self._guests.get(uid)) and guest.workload.attempt == attempt
        ]

    def _evict(self, victim: Victim, choice: Choice, usage: NodeUsage, at: Seconds) -> Sequence[Instruction]:
        workload, node = victim.guest.workload, self._settings.node
        command = command_of(victim, choice, at=at, node=node, grace=self._settings.grace)
        return self._command(workload, command, f"{node}.usage.{usage.seq}", at)

    def _command(self, workload: Workload, command: Eviction, cause: str, at: Seconds) -> Sequence[Instruction]:
        """Send it, say it, and wait for the guest to be gone."""
        uid, attempt, node = workload.uid, workload.attempt, self._settings.node
        number = self._commands[uid] = self._commands.get(uid, 0) + 1
        self._leaving[uid] = at + self._settings.grace + self._settings.confirm_after * self._period
        self._budget.spend(at)
        again = "" if number == 1 else f".{number}"
        line = line_of(command, workload, id=f"{uid}.{attempt}.chosen{again}", cause=cause)
        return (
            Decide(line),
            Emit(EVICTIONS.at(node=node), command, id=f"{uid}.{attempt}.evict{again}"),
            Count("neap_evictor_evictions_total", labels={"rule": command.rule}),
        )


def _asked(rules: Mapping[str, Rule], settings: Settings) -> dict[str, tuple[Rule, RuleSettings]]:
    """The rules in the order they are asked, each with its settings.

    Raises:
        SettingsError: a rule is named that is not there.
    """
    for key, names in (("order", settings.order), ("off", settings.off)):
        for name in names:
            if name not in rules:
                raise SettingsError(f"evictor.{key}: no rule named {name!r} (known: {', '.join(rules)})")
    names = (*settings.order, *(name for name in rules if name not in settings.order))
    return {
        name: (rules[name], getattr(settings, name, None) or rules[name].settings())
        for name in names
        if name not in settings.off
    }


def _held_back(reason: str) -> Count:
    return Count("neap_evictor_held_back_total", labels={"reason": reason})
