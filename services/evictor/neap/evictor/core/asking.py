"""Asking guests to leave: the tokens it takes, the commands sent, what the node's own budget has left.

Whether somebody is to leave is decided elsewhere (machine.py); here is counted who was asked, and how often.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from neap.common.contract.catalogue import EVICTIONS
from neap.common.model.evicting import Token
from neap.common.model.lifecycle import Eviction, Spent
from neap.common.model.workload import Workload
from neap.common.runtime.machine import Count, Decide, Emit, Instruction, Put
from neap.common.units import Seconds
from neap.evictor.core.budget import recent
from neap.evictor.core.claims import AWAY, Claim
from neap.evictor.core.history import History, Sent
from neap.evictor.core.memory import Memory
from neap.evictor.core.residents import Resident
from neap.evictor.core.story import line_of
from neap.evictor.core.tokens import Tokens
from neap.evictor.settings import Settings

ASKED: Final = 2  # times; a command may be lost once
FIRST_RETRY: Final[Seconds] = 5.0  # after which a bus that was away is asked for tokens again; each time twice as long
LAST_RETRY: Final[Seconds] = 60.0  # and no longer


class Asking:
    """See module docstring. `spent` are the times of the node's window, `sent` the commands by uid."""

    def __init__(self, settings: Settings, known: Memory | None = None, tokens: Tokens | None = None) -> None:
        known = known or Memory()
        self.settings = settings
        self.period: Seconds = known.period  # of reports
        self.spent, self.sent = known.spent, dict(known.sent)
        self.history = History(known.evicted, known.would)
        self.tokens = tokens or Tokens(settings.node)
        self.claims: dict[str, Claim] = {}  # by uid
        self._away: tuple[Seconds, Seconds] | None = None  # when the bus did not answer, and for how long it is spared

    def leaving(self) -> dict[str, Seconds]:
        """Who was asked and counts as gone, and until when that is awaited."""
        return {uid: sent.until for uid, sent in self.sent.items() if sent.until}

    def in_vain(self) -> set[str]:
        """Who was asked so often that asking once more helps nobody: somebody else comes first."""
        return {uid for uid, sent in self.sent.items() if not sent.until and sent.number >= ASKED}

    @property
    def is_busy(self) -> bool:
        """Whether somebody is leaving, or about to be asked."""
        return bool(self.claims or self.leaving())

    @property
    def window(self) -> Seconds:
        """Of the node's own budget."""
        return self.settings.window * self.period

    def left(self, at: Seconds) -> int:
        """How many more this node may ask to leave now."""
        self.spent = recent(self.spent, at, self.window)
        return self.settings.most - len(self.spent) - len(self.claims)

    def lacks(self, workload: Workload, at: Seconds) -> str:
        """The shared budget that has nothing left for this guest; empty if all have."""
        slots = self.tokens.wanted(workload, self.settings.shared, at)
        return slots if isinstance(slots, str) else ""

    def is_away(self, at: Seconds) -> bool:
        """Whether the bus did not answer just now."""
        return self._away is not None and 0 <= at - self._away[0] < self._away[1]

    def _note_away(self, at: Seconds) -> None:
        wait = FIRST_RETRY if self._away is None else min(2 * self._away[1], LAST_RETRY)
        self._away = (at, wait) if not self.is_away(at) else self._away

    def claim(self, claim: Claim, workload: Workload, at: Seconds) -> list[Instruction]:
        """Ask for the tokens it takes; nothing if it takes none."""
        slots = self.tokens.wanted(workload, self.settings.shared, at)
        if isinstance(slots, str) or not slots:
            return []
        self.claims[claim.uid] = claim
        claim.waiting = {slot.key.subject for slot in slots}
        self.tokens.ask(slots)
        return [Put(slot.key, slot.token, revision=slot.revision, answer=True) for slot in slots]

    def answered(self, token: Token, revision: int, trouble: str, at: Seconds) -> Claim | None:
        """One token was had, or not; the claim if that was the last answer it waited for."""
        subject = self.tokens.answered(token, revision, at, self.settings.shared.window)
        if trouble == AWAY:
            self._note_away(at)
        else:
            self._away = None
        claim = self.claims.get(token.uid)
        if claim is None or subject not in claim.waiting or token.at != claim.at:
            return None
        claim.waiting.discard(subject)
        claim.trouble = claim.trouble or trouble
        return None if claim.waiting else self.claims.pop(token.uid)

    def overdue(self, at: Seconds, patience: Seconds) -> list[Claim]:
        """Claims that waited too long for an answer: for them the bus is away."""
        late = [claim for claim in self.claims.values() if at - claim.at >= patience]
        for claim in late:
            del self.claims[claim.uid]
            self.tokens.unanswered(claim.waiting)
            claim.trouble = claim.trouble or AWAY
            self._note_away(at)
        return late

    def budgets(self, workload: Workload, at: Seconds, *, shared: bool) -> tuple[Spent, ...]:
        """What this eviction is taken from."""
        settings = self.settings
        own = Spent(scope="node", spent=len(self.spent) + 1, most=settings.most, window=self.window)
        return (own, *(self.tokens.spent(workload, settings.shared, at) if shared else ()))

    def say(self, workload: Workload, command: Eviction, cause: str) -> list[Instruction]:
        """Send a command, tell it, and wait for the guest to be gone."""
        uid, attempt, at = workload.uid, workload.attempt, command.at
        assert self.left(at) > 0, "more evictions than the budget allows"
        number = self.sent[uid].number + 1 if uid in self.sent else 1
        until = at + self.settings.grace + self.settings.confirm_after * self.period
        self.sent[uid] = Sent(attempt=attempt, number=number, until=until)
        self.spent = (*self.spent, at)
        self.history.count(workload, at)
        again = "" if number == 1 else f".{number}"
        return [
            Decide(line_of(command, workload, id=f"{uid}.{attempt}.chosen{again}", cause=cause)),
            Emit(EVICTIONS.at(node=self.settings.node), command, id=f"{uid}.{attempt}.evict{again}"),
            Count("neap_evictor_evictions_total", labels={"rule": command.rule}),
        ]

    def give_up(self, at: Seconds) -> int:
        """Commands nobody has confirmed in time are lost: those guests count again. How many."""
        late = [uid for uid, until in self.leaving().items() if until <= at]
        for uid in late:
            self._count_again(uid)
        return len(late)

    def forget(self, guests: Mapping[str, Resident], may_leave: Callable[[Resident], bool]) -> None:
        """Runs that are over need no command; who may no longer leave is not awaited."""
        for uid, sent in tuple(self.sent.items()):
            resident = guests.get(uid)
            if resident is None or resident.attempt != sent.attempt:
                del self.sent[uid]
            elif not may_leave(resident):
                self._count_again(uid)

    def _count_again(self, uid: str) -> None:
        self.sent[uid] = Sent(attempt=self.sent[uid].attempt, number=self.sent[uid].number)
