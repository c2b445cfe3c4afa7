"""Evictions: commands of the evictors, carried out by the API server as far as budgets allow.

    accepted      the pod is on its way out; its end is told when it is gone
    not now       a budget has no room: this pod waits, longer each time, and so does every other pod under the budget,
                  until the wait is over or the budget is said to have more room
    impossible    as things are it never will be (two budgets on one pod); said once, and left
    not known     the API could not be asked; asked again

The command stays on the bus: it comes back until it is done or older than `patience`, so no restart loses it. Nobody
is evicted on hearsay: while pods or budgets were not heard of for too long (staleness.py), commands wait.
Source: Kubernetes documentation, "API-initiated eviction"; requirements 000-15.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from neap.common.model.lifecycle import Eviction
from neap.common.runtime.machine import Count, Instruction, Later
from neap.common.units import MINUTE, Seconds, format_duration
from neap.gateway.core import lines
from neap.gateway.core.acts import Accepted, AlreadyGone, Evict, Impossible, NotNow
from neap.gateway.core.events import Events
from neap.gateway.core.pods.book import Holds
from neap.gateway.core.pods.budgets import Budgets
from neap.gateway.core.pods.facts import PodFacts

MOST_TRIES: Final = 16


class EvictionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See module docstring."""

    again: Annotated[Seconds, Meta(gt=0)] = 5.0  # after which a command is looked at again
    first: Annotated[Seconds, Meta(gt=0)] = 5.0  # a pod waits after its first "not now"; twice as long each time
    most: Annotated[Seconds, Meta(gt=0)] = MINUTE  # at most
    patience: Annotated[Seconds, Meta(gt=0)] = 10 * MINUTE  # a command that is older is given up
    hand_over: Annotated[Seconds, Meta(gt=0)] = 2.0  # a gateway that does not lead hands a command back for so long


class Evictions:
    """See module docstring."""

    def __init__(self, settings: EvictionSettings, holds: Holds, events: Events) -> None:
        self._settings, self._holds, self._events = settings, holds, events
        self.budgets = Budgets()
        self._under_way: set[str] = set()
        self._leaving: dict[str, str] = {}  # uid -> why
        self._impossible: dict[str, int] = {}  # uid -> attempt
        self._waits: dict[str, tuple[int, Seconds]] = {}  # uid -> tries, not before
        self._full: dict[str, Seconds] = {}  # budget -> not before

    def why(self, uid: str) -> str:
        """Why a pod was asked to go; empty if it was not."""
        return self._leaving.get(uid, "")

    def is_leaving(self, uid: str) -> bool:
        """Whether it was asked to go, or is being asked."""
        return uid in self._leaving or uid in self._under_way

    def forget(self, uid: str) -> None:
        """The pod is gone."""
        for kept in (self._leaving, self._impossible, self._waits):
            kept.pop(uid, None)

    def has_room(self, key: str) -> None:
        """A budget changed to the better."""
        self._full.pop(key, None)

    def handle(self, eviction: Eviction, facts: PodFacts | None, at: Seconds, doubt: str) -> Sequence[Instruction]:
        """A command came, or came again. `doubt`: why nobody is evicted on what is known now."""
        uid = eviction.uid
        held = [hold.attempt for hold in self._holds.of(uid)]
        if (facts is None and not held) or (held and max(held) > eviction.attempt):
            return [_counted("late")]
        if uid in self._leaving or (facts is not None and (facts.deleting or facts.over)):
            return ()
        if self._impossible.get(uid, 0) >= eviction.attempt:
            return ()
        if facts is not None and facts.node and facts.node != eviction.node:
            return [_counted("late")]
        if at - eviction.at > self._settings.patience:
            why = f"given up after {format_duration(at - eviction.at)}: {eviction.rule}: {eviction.reason}"
            return [_counted("expired"), self._line(eviction, at, "not evicted", why)]
        if doubt:
            return [_counted("stale"), Later(self._settings.again)]
        if facts is None or uid in self._under_way:
            return [Later(self._settings.again)]
        until = max([self._waits.get(uid, (0, at))[1], *(self._full.get(key, at) for key in self._over(facts))])
        if until > at:
            return [Later(min(until - at, self._settings.most))]
        self._under_way.add(uid)
        return [
            Evict(facts.namespace, facts.name, uid, eviction.grace, eviction),
            Later(self._settings.again),
        ]

    def answered(self, evict: Evict, outcome: Any, facts: PodFacts | None, at: Seconds) -> list[Instruction]:
        """The API server said what becomes of it."""
        self._under_way.discard(evict.uid)
        eviction = evict.eviction
        said = f"{eviction.rule}: {eviction.reason}"
        pod = lines.about(evict.namespace, evict.name, evict.uid)
        match outcome:
            case Accepted():
                self._waits.pop(evict.uid, None)
                self._leaving[evict.uid] = said
                grace = "its own grace" if evict.grace is None else format_duration(evict.grace)
                why = f"{said}; {grace} to end"
                told = self._events.say(pod, "Evicted", f"{why}; {eviction.ranking}", at, action="Evicting")
                return [_counted("accepted"), self._line(eviction, at, "evicted", why), *told]
            case AlreadyGone():
                return [_counted("gone")]
            case NotNow(after=after, why=why):
                return [_counted("not-now"), *self._wait(evict, facts, max(after, 0.0), why, at)]
            case Impossible(why=why):
                self._impossible[evict.uid] = eviction.attempt
                full = f"cannot be evicted ({why}); {said}"
                told = self._events.say(pod, "EvictionImpossible", full, at, action="Evicting", warning=True)
                return [_counted("impossible"), self._line(eviction, at, "not evicted", full), *told]
        return []

    def failed(self, evict: Evict) -> list[Instruction]:
        """It could not be asked; the command comes back."""
        self._under_way.discard(evict.uid)
        return [_counted("failed")]

    def _wait(self, evict: Evict, facts: PodFacts | None, after: Seconds, why: str, at: Seconds) -> list[Instruction]:
        tries = self._waits.get(evict.uid, (0, at))[0]
        delay = max(after, min(self._settings.most, self._settings.first * 2.0 ** min(tries, MOST_TRIES)))
        self._waits[evict.uid] = tries + 1, at + delay
        for key in self._over(facts) if facts is not None else ():
            self._full[key] = at + delay
        if tries:
            return []
        full = f"a budget has no room now ({why}); asked again in {format_duration(delay)}; {evict.eviction.rule}"
        pod = lines.about(evict.namespace, evict.name, evict.uid)
        told = self._events.say(pod, "EvictionRefused", full, at, action="Evicting")
        return [self._line(evict.eviction, at, "held back", full), *told]

    def _over(self, facts: PodFacts) -> list[str]:
        return self.budgets.of(facts.namespace, dict(facts.labels))

    def _line(self, eviction: Eviction, at: Seconds, what: str, why: str) -> Instruction:
        pod = lines.about(eviction.namespace, eviction.name, eviction.uid)
        id = f"{eviction.attempt}.{what.replace(' ', '-')}"
        return lines.line(
            pod, at, what, why, id=id, node=eviction.node, numbers=eviction.measured, eviction=eviction,
            cause=f"{eviction.uid}.{eviction.attempt}.evict",
        )  # fmt: skip


def _counted(outcome: str) -> Count:
    return Count("neap_gateway_evictions_total", labels={"outcome": outcome})
