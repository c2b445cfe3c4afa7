"""Budgets that the evictors of all nodes share: a slot is taken before anybody is asked to leave.

    slots(scope) = 0 … most − 1        a slot is free while nobody took it, and again `window` after it was taken

One slot is one key of a stored channel, written only if it is still as it was seen (the bus refuses else): so no two
evictors ever hold one slot, and no window of a scope sees more than `most` evictions, whoever sees what late. Only
clocks count: one that runs ahead frees slots earlier by as much. Two that want the same slot at once: one loses the
race, and tries again at its next report. Every evictor begins at another slot, so that this is rare.

    cluster     all guests                    namespace   guests of one namespace
    workload    guests of one family (neap.common.model.protection.family)

A token is its guest's: whoever asks again for the same run of it takes the same slot anew, and its window begins anew
with that command. Tokens of an eviction that was not said after all are spent nevertheless; that is the safe side.
Source: Lamport's slots with compare-and-set; the ledger's optimistic append (docs/adr/0001).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec
from msgspec import Meta

from neap.common.contract.catalogue import EVICTION_TOKENS
from neap.common.contract.channel import Address
from neap.common.model.evicting import Token
from neap.common.model.lifecycle import Spent
from neap.common.model.protection import family
from neap.common.model.workload import Workload
from neap.common.units import HOUR, Seconds

Most = Annotated[int, Meta(ge=0, le=10_000)]
CLUSTER: Final = "cluster"
LONGEST: Final = HOUR  # how long the channel keeps a token


class SharedBudgets(msgspec.Struct, frozen=True, kw_only=True):
    """Evictions per window that all nodes together may say."""

    on: bool = True  # false, for a node without a bus to others: only the node's own budget counts
    window: Annotated[Seconds, Meta(gt=0, le=LONGEST)] = 300.0  # one window of the three below
    workload: Most = 50  # per workload family; 0: as many as the others allow
    namespace: Most = 200  # per namespace; 0: as many as the others allow
    cluster: Most = 500  # in all; 0: as many as the others allow


class Slot(NamedTuple):
    """A free slot: who may have it, and the revision it must still have."""

    key: Address[Token]
    token: Token
    revision: int


class Seen(NamedTuple):
    """A slot as it was last heard of."""

    token: Token | None
    revision: int
    until: Seconds


class Tokens:
    """See module docstring."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._seen: dict[tuple[str, str], dict[int, Seen]] = {}
        self._asked: dict[str, Token] = {}  # slots whose answer is awaited, by subject
        self.synced = False

    def hear(self, token: Token, revision: int, at: Seconds, window: Seconds) -> None:
        """Somebody took a slot. A clock that runs ahead must not keep it for longer than a window from now."""
        slots = self._seen.setdefault((token.scope, token.name), {})
        known = slots.get(token.slot)
        if known is None or revision >= known.revision:
            slots[token.slot] = Seen(token, revision, min(token.until, at + window))

    def gone(self, subject: str) -> None:
        """A slot is as new."""
        named = EVICTION_TOKENS.tokens_of(subject)
        slots = self._seen.get((named["scope"], named["name"]), {})
        if named["slot"].isdecimal():
            slots.pop(int(named["slot"]), None)
        if not slots:
            self._seen.pop((named["scope"], named["name"]), None)

    def ask(self, slots: Sequence[Slot]) -> None:
        """These are being taken."""
        self._asked |= {slot.key.subject: slot.token for slot in slots}

    def unanswered(self, subjects: Iterable[str]) -> None:
        """These are not awaited any longer; a late answer is heard all the same."""
        for subject in subjects:
            self._asked.pop(subject, None)

    def answered(self, token: Token, revision: int, at: Seconds, window: Seconds) -> str:
        """The bus has said whether a slot was taken; a revision of 0: it was not. Returns its key."""
        subject = _key(token.scope, token.name, token.slot).subject
        self._asked.pop(subject, None)
        if revision:
            self.hear(token, revision, at, window)
        return subject

    def wanted(self, workload: Workload, budgets: SharedBudgets, at: Seconds) -> list[Slot] | str:
        """The slots to take for a guest, those that it has anew; or the scope that has no free one."""
        found: list[Slot] = []
        for scope, of, most in scopes(workload, budgets):
            name = _name(of)
            seen = self._seen.get((scope, name), {})
            live = {number for number, slot in seen.items() if slot.token is not None and slot.until > at}
            free = next((number for number in sorted(live) if self._is_of(seen[number].token, workload)), None)
            if free is None:
                live |= {token.slot for token in self._asked.values() if (token.scope, token.name) == (scope, name)}
                free = _first_free(live, most, f"{self._node}/{workload.uid}") if len(live) < most else None
            if free is None:
                return scope
            token = Token(
                at=at,
                source="evictor",
                scope=scope,
                name=name,
                slot=free,
                of=of,
                until=at + budgets.window,
                node=self._node,
                uid=workload.uid,
                attempt=workload.attempt,
            )
            found.append(Slot(_key(scope, name, free), token, seen[free].revision if free in seen else 0))
        return found

    def spent(self, workload: Workload, budgets: SharedBudgets, at: Seconds) -> tuple[Spent, ...]:
        """How far the budgets of a guest are spent, as heard here."""
        told = []
        for scope, of, most in scopes(workload, budgets):
            live = sum(slot.until > at for slot in self._seen.get((scope, _name(of)), {}).values())
            told.append(Spent(scope=scope, spent=live, most=most, window=budgets.window))
        return tuple(told)

    def _is_of(self, token: Token | None, workload: Workload) -> bool:
        return token is not None and (token.node, token.uid, token.attempt) == (
            self._node,
            workload.uid,
            workload.attempt,
        )


def scopes(workload: Workload, budgets: SharedBudgets) -> Iterator[tuple[str, str, int]]:
    """Scope, which of them, and how many; narrowest first."""
    for scope, of, most in (
        ("workload", family(workload), budgets.workload),
        ("namespace", workload.namespace, budgets.namespace),
        (CLUSTER, "all", budgets.cluster),
    ):
        if budgets.on and most:
            yield scope, of, most


def _key(scope: str, name: str, slot: int) -> Address[Token]:
    return EVICTION_TOKENS.at(scope=scope, name=name, slot=str(slot))


def _name(of: str) -> str:
    """As one token of a subject, whatever the name has in it."""
    return hashlib.blake2b(of.encode(), digest_size=8).hexdigest()


def _first_free(taken: set[int], most: int, who: str) -> int | None:
    start = int.from_bytes(hashlib.blake2b(who.encode(), digest_size=8).digest()) % most
    return next((slot for turn in range(most) if (slot := (start + turn) % most) not in taken), None)
