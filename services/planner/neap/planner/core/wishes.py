"""What people wish: the planner's settings for the cluster, and for one pool, node or service by policy.

The planner is one room for all nodes, so it asks for each target by itself; answers are kept until a document, or the
time, changes them. A target that no document names is as the cluster, so 100,000 services are few questions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from neap.common.contract.catalogue import POLICY
from neap.common.model.policy import MOST_DOCUMENTS, PolicyDocument, Target, Tier
from neap.common.runtime.machine import Arrived, Count, Event, Gone, Instruction, Synced
from neap.common.runtime.tuning import CHANGED, REFUSED, TellPolicy, Tunable
from neap.common.units import Seconds
from neap.planner.settings import Settings

MOST_KEPT: Final = 20_000  # answers


class Wishes:
    """See module docstring."""

    def __init__(self, tunable: Tunable[Settings], default: Settings) -> None:
        self._tunable, self._default = tunable, default
        self.round = 0  # goes up when any answer may have changed
        self._documents: dict[str, PolicyDocument] = {}
        self._kept: dict[Target, Settings] = {}
        self._named: frozenset[tuple[Tier, str]] = frozenset()  # by the documents
        self._is_split = False  # whether one holds for a part of the nodes
        self._until: Seconds = math.inf
        self._refused: frozenset[tuple[str, int]] = frozenset()
        self._is_synced = False
        self._at: Seconds = -math.inf

    def hear(self, event: Event) -> Sequence[Instruction]:
        """Fold one event; what there is to say about policy."""
        self._at, is_news = event.at, event.at >= self._until
        match event:
            case Arrived(message=PolicyDocument() as document) if document.room == self._tunable.room:
                told = self._documents | {document.name: document}
                self._documents = {name: told[name] for name in sorted(told)[:MOST_DOCUMENTS]}
                is_news = True
            case Gone(channel=channel, subject=subject) if channel == POLICY:
                is_news = self._documents.pop(POLICY.tokens_of(subject)["name"], None) is not None
            case Synced(channel=channel) if channel == POLICY:
                self._is_synced = is_news = True
        if is_news:
            editions = [edition for document in self._documents.values() for edition in document.editions]
            self._named = frozenset((edition.tier, edition.selector) for edition in editions)
            self._is_split = any(edition.canary < 1 for edition in editions)
        return self._renew(event.at) if is_news and self._is_synced else ()

    @property
    def settings(self) -> Settings:
        """For the cluster."""
        return self._of(Target(node=""))

    def of_pool(self, pool: str) -> Settings:
        """For a pool of nodes."""
        return self._of(Target(node="", pool=pool))

    def of_node(self, node: str, pool: str = "") -> Settings:
        """For one node."""
        return self._of(Target(node=node, pool=pool))

    def of_service(self, key: str) -> Settings:
        """For a service, by its profile_key (namespace/Kind/name)."""
        namespace, _, owner = key.partition("/")
        return self._of(Target(node="", service=f"{namespace}/{owner.removeprefix('Pod/')}"))

    def _of(self, target: Target) -> Settings:
        if not self._documents:
            return self._default
        target = self._asked(target)
        found = self._kept.get(target)
        if found is None:
            told = self._tunable.resolve(tuple(self._documents.values()), target, self._at, self._default)
            self._until = min(self._until, told.until)
            found = self._tunable.fit(told.values, self._default)
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[target] = found
        return found

    def _asked(self, target: Target) -> Target:
        """The widest target with the same answer: what no document names is as everything else."""
        named = self._named
        return Target(
            node=target.node if self._is_split or (Tier.NODE, target.node) in named else "",
            pool=target.pool if (Tier.POOL, target.pool) in named else "",
            service=target.service if (Tier.SERVICE, target.service) in named else "",
        )

    def _renew(self, at: Seconds) -> Sequence[Instruction]:
        before = self._kept.get(Target(node=""), self._default)
        self._kept, self.round = {}, self.round + 1
        told = self._tunable.resolve(tuple(self._documents.values()), Target(node=""), at, self._default)
        self._until = told.until
        said: list[Instruction] = []
        refused = {(absent.document, absent.version): absent for absent in told.refused}
        for key in sorted(refused.keys() - self._refused):
            said += [Count(REFUSED, labels={"service": self._tunable.room})]
            said += [TellPolicy("policy.refused", key[0], refused[key].says)]
        self._refused = frozenset(refused)
        if self.settings != before:
            why = ", ".join(f"{key} = {value}" for key, value in sorted(told.values.items())) or "defaults"
            said += [Count(CHANGED, labels={"service": self._tunable.room}), TellPolicy("policy.changed", "", why)]
        return said
