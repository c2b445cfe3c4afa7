"""The evictor's decisions: at every report, is a rule beyond its threshold for long enough, and who helps most.

Choosing is one thing, asking somebody to leave another: in between a token of every shared budget is taken (tokens),
and then everything is looked at once more, as it is now (recount): is the report fresh, the guest still here, the
pressure still there, its measurement known? In doubt nobody leaves, and why is counted.

An eviction is a command with an id, f"{uid}.{attempt}.evict": stored once however often it is sent, and whoever
executes it ends that attempt and no other, so a repetition is harmless. The victim counts as gone until the ledger
releases it. If it does not within grace + `confirm_after` reports, the command is taken for lost: the guest counts
again, and if it is chosen again the id gets a number (".2"), because the first one would not be stored twice. Who was
asked twice in vain comes after all others (rank).

What the scheduler asks for (Preemption) is held to the same rights, budgets and patience, and comes after own rules;
how many of a family must stay the scheduler has to know, which sees all nodes.

Without the bus nobody leaves, for nobody knows what other nodes do: but for what is hard about a rule that saves the
node, which then counts on the node's own budget alone. A bus that does not answer within `stale_after` reports is away.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from neap.common.contract.catalogue import EVICTING, EVICTION_TOKENS, PLACEMENTS
from neap.common.model.evicting import Evicting, Token
from neap.common.model.lifecycle import Preemption
from neap.common.model.placement import Checkpoint, Placed, Released
from neap.common.model.protection import may_leave
from neap.common.model.tide import TidePool
from neap.common.model.usage import NodeUsage
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Arrived, Count, Done, Event, Failed, Gone, Instruction, Put, Synced
from neap.common.units import MINUTE, Seconds
from neap.evictor.core.asking import Asking
from neap.evictor.core.budget import fewest
from neap.evictor.core.claims import AWAY, LOST, Claim, held_back, refused
from neap.evictor.core.closing import Closing
from neap.evictor.core.guests import is_spare, spare, staying
from neap.evictor.core.hold import Due, Holds
from neap.evictor.core.memory import Memory
from neap.evictor.core.recount import again, doubt
from neap.evictor.core.requests import Requests, named
from neap.evictor.core.residents import Resident, Residents
from neap.evictor.core.rule import Rule
from neap.evictor.core.rules import asked_rules
from neap.evictor.core.scene import Scene
from neap.evictor.core.story import Before, Choice, Say, command_for, command_of, pause_of, would_leave
from neap.evictor.core.tried import tried
from neap.evictor.core.view import Guest, View
from neap.evictor.settings import Settings

LONGEST_PERIOD: Final = 10 * MINUTE  # of reports; a longer one is no period


class EvictorMachine:
    """See module docstring."""

    def __init__(
        self,
        settings: Settings,
        rules: Mapping[str, Rule],
        *,
        is_protected: Callable[[Workload], bool] = lambda _: False,
        policies: Callable[[str, Workload], tuple[str, ...]] = lambda *_: (),
    ) -> None:
        self._settings, self._known_rules = settings, rules
        self._is_protected, self._policies = is_protected, policies
        self._rules = asked_rules(rules, settings)
        self._holds = Holds(self._rules, {})
        self._residents, self._scene = Residents(settings.node), Scene()
        self._heard: Seconds | None = None  # `at` of the newest report
        self._stale: set[str] = set()  # inputs said to be too old
        self._asking = Asking(settings)
        self._requests, self._closing = Requests(), Closing({})
        self._paused = False

    @property
    def memory(self) -> Memory:
        """All that must not be forgotten."""
        return Memory(
            heard=self._heard,
            period=self._asking.period,
            holds={rule: dict(holds) for rule, holds in self._holds.of.items()},
            spent=self._asking.spent,
            evicted=dict(self._asking.history.evicted),
            sent=dict(self._asking.sent),
            requests=self._requests.waiting,
            closed=dict(self._closing.closed),
            squeeze=self._scene.squeeze,
            started=self._residents.started,
            start_costs=dict(self._scene.start_costs),
            starting=dict(self._scene.starting),
            would=dict(self._asking.history.would),
            paused=self._paused,
        )

    def recall(self, memory: Memory, at: Seconds) -> None:
        """See Mindful; on top of what was heard by now."""
        self._holds = Holds(self._rules, memory.holds)
        self._scene.recall(memory)
        self._residents.recall(memory.started)
        if self._heard is None and memory.heard is not None:
            self._heard = min(memory.heard, at)
            self._stale.add("usage")  # nothing to say of while it was away
        self._asking = Asking(self._settings, memory, self._asking.tokens)
        heard, self._requests = self._requests.waiting, Requests(memory.requests)
        for since, asked in heard:
            self._requests.add(asked, since)
        self._paused = memory.paused
        self._closing = Closing(memory.closed, is_told=False)  # whatever the earlier life said last

    def tune(self, settings: Settings, at: Seconds) -> Sequence[Instruction]:
        """Settings change while it runs; they hold from now on.

        Raises:
            SettingsError: they name a rule that is not there; nothing has changed then.
        """
        self._rules = asked_rules(self._known_rules, settings)
        self._settings = self._asking.settings = settings
        self._holds = Holds(self._rules, self._holds.of)
        self._forget()
        return [*self._pause(at), *self._tell_closing(at)]

    def handle(self, event: Event) -> Sequence[Instruction]:
        """See Machine."""
        said, silent = self._hear(event), self._mind_silence(event.at)
        return [*said, *silent] if silent else said

    def _hear(self, event: Event) -> Sequence[Instruction]:
        match event:
            case Arrived(at=at, message=NodeUsage() as usage):
                return self._report(usage, at)
            case Arrived(at=at, message=(Placed() | Released() | Checkpoint()) as entry, seq=seq):
                self._place(self._residents.hear(entry, seq), min(entry.at, at))
            case Arrived(at=at, message=Token() as token, seq=seq):
                self._asking.tokens.hear(token, seq, at, self._settings.shared.window)
            case Arrived(at=at, message=Preemption() as asked) if asked.node == self._settings.node:
                self._requests.add(asked, at)
                return self._serve(at)
            case Arrived(at=at, message=TidePool() as pool):
                self._scene.turn(pool, self._settings.node, at)
            case Arrived(at=at, message=message) if getattr(message, "node", "") == self._settings.node:
                self._scene.hear(message, at)
            case Done(at=at, instruction=Put(value=Token() as token), outcome=revision):
                return self._answered(token, at, int(revision), "")
            case Failed(at=at, instruction=Put(value=Token() as token), may_retry=may_retry):
                return self._answered(token, at, 0, AWAY if may_retry else LOST)
            case Failed(instruction=Put(value=Evicting())):
                self._closing.untold()
            case Gone(channel=channel, subject=subject) if channel is EVICTION_TOKENS:
                self._asking.tokens.gone(subject)
            case Gone(channel=channel, subject=subject):
                self._scene.gone(channel, subject)
            case Synced(channel=channel) if channel is EVICTION_TOKENS:
                self._asking.tokens.synced = True
            case Synced(channel=channel) if channel is PLACEMENTS:
                for uid in self._residents.read():
                    self._scene.unknown(uid)
                self._forget()
        return ()

    def validate(self) -> None:
        """Only guests that are here, reclaimed and unprotected are on their way out, and nobody twice."""
        if self._synced:
            strangers = self._asking.sent.keys() - self._guests.keys()
            assert not strangers, f"a command is remembered for somebody who is not here: {strangers}"
            for uid in self._leaving():
                assert self._may_leave(self._guests[uid]), f"{uid} is leaving, and must not"
        assert not self._leaving().keys() & self._asking.claims.keys(), "somebody is to leave twice"

    # -- what was heard ----------------------------------------------------------------------------------------------

    def _place(self, uid: str, at: Seconds) -> None:
        """The ledger has one more entry; `uid`: whose run begins with it, if any does."""
        if uid and self._synced:
            self._scene.placed(uid, at)
        self._forget()

    def _forget(self) -> None:
        if self._synced:
            self._asking.forget(self._guests, self._may_leave)

    @property
    def _synced(self) -> bool:
        return self._residents.synced

    @property
    def _guests(self) -> Mapping[str, Resident]:
        return self._residents.here

    def _may_leave(self, guest: Resident | Guest) -> bool:
        if self._settings.protected or self._is_protected(guest.workload):
            return False
        return may_leave(guest.workload, self._settings.protected_labels, self._settings.protected_owners)

    def _leaving(self) -> dict[str, Seconds]:
        return self._asking.leaving()

    # -- one report --------------------------------------------------------------------------------------------------

    def _report(self, usage: NodeUsage, at: Seconds) -> Sequence[Instruction]:
        if usage.node != self._settings.node or not math.isfinite(usage.at):
            return ()
        then, before = min(usage.at, at), self._heard  # a clock that runs ahead must not silence what follows
        if before is not None and then <= before:
            return ()
        self._heard = then
        self._scene.take(usage, then, self._guests)
        self._asking.period = usage.period if 0 < usage.period <= LONGEST_PERIOD else self._asking.period
        if not self._synced or at - then > self._patience:
            return ()
        if before is not None and then - before > self._patience:
            self._holds = Holds(self._rules, {})
        said = [*self._say_stale("usage", is_stale=False), *self._pause(at)]
        if late := self._asking.give_up(at):
            said.append(Count("neap_evictor_unconfirmed_total", late))
        for claim in self._asking.overdue(at, self._patience):
            said += self._decided(claim, at)
        said += self._say_stale("headroom", is_stale=self._scene.is_offer_stale(at, self._offer_patience))
        view = self._view(at)
        due, dry, closes = self._holds.feel(view)
        said += [*self._would(view, dry), *self._act(view, due, at)]
        if self._asking.is_busy:
            closes["evicting"] = "guests are asked to leave"
        self._closing.feel(closes, at, self._reopen_after)
        return [*said, *self._tell_closing(at)]

    @property
    def _patience(self) -> Seconds:
        return self._settings.stale_after * self._asking.period

    @property
    def _offer_patience(self) -> Seconds:
        return self._settings.offer_stale_after * self._asking.period

    @property
    def _reopen_after(self) -> Seconds:
        return self._settings.reopen * self._asking.period

    def _mind_silence(self, at: Seconds) -> list[Instruction]:
        """Whatever is heard tells that reports are not."""
        is_silent = self._synced and self._heard is not None and at - self._heard > self._patience
        return self._say_stale("usage", is_stale=True) if is_silent else []

    def _say_stale(self, what: str, *, is_stale: bool) -> list[Instruction]:
        """Counted when it becomes so, not at every report."""
        if is_stale == (what in self._stale):
            return []
        self._stale.symmetric_difference_update({what})
        return [Count("neap_evictor_stale_total", labels={"input": what})] if is_stale else []

    def _pause(self, at: Seconds) -> list[Instruction]:
        """Said once when a pause begins, and once when it is over."""
        if (paused := self._settings.pause_until > at) == self._paused:
            return []
        self._paused = paused
        said = pause_of(self._settings, at) if paused else Say("evictor.resumed", "guests may be asked to leave again")
        return [Count("neap_evictor_pauses_total", labels={"what": "began" if paused else "ended"}), said]

    def _tell_closing(self, at: Seconds) -> list[Instruction]:
        news = self._closing.news(self._settings, at, self._reopen_after)
        return [Put(EVICTING.at(node=self._settings.node), news)] if news is not None else []

    def _view(self, at: Seconds) -> View:
        view = self._scene.view(
            at,
            self._guests,
            self._leaving(),
            offer_patience=self._offer_patience,
            evicted=self._asking.history.evicted,
            in_vain=self._asking.in_vain(),
        )
        assert view is not None, "no report yet"
        return view

    def _would(self, view: View, dry: Sequence[Due]) -> list[Instruction]:
        """What the rules on a dry run come to: counted and logged once per guest while it lasts, and nothing else."""
        said: list[Instruction] = []
        for one in dry:
            choice = self._choose(view, [one], self._settings.most)
            if isinstance(choice, str):
                continue
            for victim in choice.victims:
                if self._asking.history.is_news(f"{one.rule}/{victim.guest.uid}", view.at, self._asking.window):
                    said.append(Count("neap_evictor_would_evict_total", labels={"rule": one.rule}))
                    said.append(would_leave(victim, choice, self._settings, view.at))
        return said

    # -- choosing ----------------------------------------------------------------------------------------------------

    def _act(self, view: View, due: Sequence[Due], at: Seconds) -> list[Instruction]:
        if not due:
            return self._serve(at)
        if self._paused:
            return [held_back("paused")]
        if self._asking.is_busy:
            return [held_back("unconfirmed")]
        if (left := self._asking.left(at)) <= 0:
            return [held_back("budget")]
        choice = self._choose(view, due, left)
        if isinstance(choice, str):
            return [held_back(choice), *self._serve(at)]
        said: list[Instruction] = []
        emergency = choice.level.hard and self._rules[choice.rule][0].saves_node
        for victim in choice.victims:
            workload, cause = victim.guest.workload, f"{self._settings.node}.usage.{view.usage.seq}"
            claim = Claim(workload.uid, workload.attempt, at, cause, choice.rule, choice.level.scope, emergency)
            said += self._claim(claim, workload, at)
        return said

    def _choose(self, view: View, due: Sequence[Due], left: int) -> Choice | str:
        """The first level for which anybody may leave, and as few as it takes; or why nobody is chosen."""
        counts, spent = staying(self._guests, self._leaving()), ""
        candidates: list[Guest] = []
        for guest in view.guests:
            if self._may_leave(guest) and is_spare(guest.workload, counts):
                lacks = self._asking.lacks(guest.workload, view.at)
                spent = lacks or spent
                candidates += [guest] * (not lacks)
        for name, level, held in due:
            ranked = self._rules[name][0].rank(view, level, candidates)
            if victims := fewest([*spare(ranked, counts)], level.need)[:left]:
                return Choice(name, level, held, ranked, victims)
        return f"{spent} budget" if spent else "nobody may leave"

    def _serve(self, at: Seconds) -> list[Instruction]:
        """Do what the scheduler asks for, as far as rights and budgets allow now."""
        said: list[Instruction] = []
        while self._synced and (asked := self._requests.first(at, self._settings.request_patience)) is not None:
            there = named(asked, self._guests)
            if there and all(self._may_leave(guest) for guest in there):
                is_free = not (self._asking.is_busy or self._settings.pause_until > at)
                for guest in there[: self._asking.left(at)] if is_free else ():
                    workload, cause = guest.workload, f"{asked.beneficiary}.preempt"
                    claim = Claim(workload.uid, workload.attempt, at, cause, asked=asked)
                    said += self._claim(claim, workload, at)
                break
            self._requests.close()
            said += [held_back("request for a protected guest")] * bool(there)
        return said

    # -- tokens, and the last look -----------------------------------------------------------------------------------

    def _claim(self, claim: Claim, workload: Workload, at: Seconds) -> list[Instruction]:
        """Take a token of every shared budget; who has them all already is asked at once."""
        if self._settings.shared.on and not self._asking.tokens.synced and not claim.emergency:
            return [held_back("budgets not read")]
        if self._asking.is_away(at) and not claim.emergency:
            return [held_back(AWAY)]
        if lacks := self._asking.lacks(workload, at):
            return [held_back(f"{lacks} budget")]
        return self._asking.claim(claim, workload, at) or self._confirm(claim, at)

    def _answered(self, token: Token, at: Seconds, revision: int, trouble: str) -> list[Instruction]:
        claim = self._asking.answered(token, revision, trouble, at)
        return self._decided(claim, at) if claim is not None else []

    def _decided(self, claim: Claim, at: Seconds) -> list[Instruction]:
        """Every token was had, or one was not; without the bus an emergency goes on."""
        if claim.trouble and not (claim.trouble == AWAY and claim.emergency):
            return [refused(claim.trouble)]
        return self._confirm(claim, at)

    def _confirm(self, claim: Claim, at: Seconds) -> list[Instruction]:
        """Look at everything once more, as it is now; then say it, or count why not."""
        resident, leaving = self._guests.get(claim.uid), self._leaving()
        is_here = resident is not None and resident.attempt == claim.attempt and claim.uid not in leaving
        is_fresh = self._heard is not None and at - self._heard <= self._patience
        why = doubt(
            (is_here, "gone"),
            (resident is None or self._may_leave(resident), "protected"),
            (self._settings.pause_until <= at, "paused"),
            (self._asking.left(at) > 0, "budget"),
            (is_fresh or claim.asked is not None, "stale report"),
        )
        if why or resident is None:
            return [refused(why)]
        workload, before = resident.workload, self._before(resident.workload, claim, at)
        if claim.asked is not None:
            return self._asking.say(
                workload, command_for(workload, claim.asked, before, self._settings, at), claim.cause
            )
        view, holds = self._view(at), self._holds.of.get(claim.rule, {})
        counts = staying(self._guests, leaving)
        candidates = [one for one in view.guests if self._may_leave(one) and is_spare(one.workload, counts)]
        choice = again(claim, self._rules.get(claim.rule), view, candidates, holds)
        if isinstance(choice, str):
            return [refused(choice)]
        node, grace = self._settings.node, self._settings.grace
        command = command_of(choice.victims[0], choice, before, at=at, node=node, grace=grace)
        return self._asking.say(workload, command, claim.cause)

    def _before(self, workload: Workload, claim: Claim, at: Seconds) -> Before:
        measures = tried(workload.uid, self._scene.squeeze, self._scene.advice(at), at)
        budgets = self._asking.budgets(workload, at, shared=not claim.trouble)
        return Before(measures, budgets, self._policies(claim.rule, workload) if claim.rule else ())
