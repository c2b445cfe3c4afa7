"""Which of what was decided is news: advice and headroom are said when they change, and again before they grow old."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from neap.advisor.core import neighbours
from neap.advisor.core.knobs import Limits, cgroups, with_mems
from neap.advisor.core.layout import Layout
from neap.advisor.core.lending import Lending
from neap.advisor.core.mind import Mind
from neap.advisor.core.plan import Plan, pools
from neap.advisor.core.pod import Pod
from neap.advisor.core.story import Scene, tell
from neap.advisor.metrics import ADVICE as ADVISED
from neap.advisor.settings import Settings
from neap.common.contract.catalogue import ADVICE, HEADROOM
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.runtime.machine import Count, Decide, Instruction, Put
from neap.common.units import Seconds

NAME: Final = "advisor"


class Saying:
    """What was said last, and what is said now."""

    def __init__(self) -> None:
        self.seq = 0
        self.advice: NodeAdvice | None = None  # the last one, by this or an earlier life; None: it is lost
        self._narrowed: frozenset[str] = frozenset()  # targets with memory nodes in it
        self._parts: object = None  # what it was made of; equal parts make equal advice. None: not known
        self._headroom: Headroom | None = None  # the last one; None: it is lost, or an earlier life's

    def heard(self, advice: NodeAdvice) -> None:
        """An earlier life said that."""
        self.seq, self.advice, self._parts = max(self.seq, advice.seq), advice, None
        self._narrowed = with_mems(advice.cgroups)

    def relived(self, advice: NodeAdvice | None, offered: Headroom | None) -> None:
        """What was decided since was not said: these were the last words."""
        self.seq, self.advice, self._parts = 0 if advice is None else advice.seq, advice, None
        self._narrowed = frozenset() if advice is None else with_mems(advice.cgroups)
        self._headroom = offered

    def lost_advice(self) -> None:
        """The bus did not take it, or has it no more: it is said again in the next round."""
        self.advice = None

    def lost_headroom(self) -> None:
        """The bus did not take it."""
        self._headroom = None

    def is_due(self, at: Seconds) -> bool:
        """Whether the last advice is half through its life."""
        return self.advice is not None and at >= (self.advice.at + self.advice.expires) / 2

    def advise(
        self, at: Seconds, made: Plan, mind: Mind, pods: Sequence[Pod], layout: Layout, settings: Settings, stale: str
    ) -> Sequence[Instruction]:
        """Nothing, unless something on the node would change or the last advice is half through its life."""
        last, cap = self.advice, None if mind.lending is None else mind.lending.cap
        noisy, curbs = neighbours.noisy(mind.neighbours), neighbours.held(mind.neighbours)
        parts = (made.cut, made.binding, mind.memory.knobs, pods, settings, layout, bool(stale), cap, noisy, curbs)
        changed = last is None or parts != self._parts
        if not changed and not self.is_due(at):
            return ()
        targets = cgroups(pods, made, mind.memory, layout, settings, Limits(self._narrowed, cap, curbs))
        self._narrowed = with_mems(targets)
        advice = NodeAdvice(
            at=at,
            source=NAME,
            node=settings.node,
            seq=max(int(at * 1000), self.seq + 1),
            expires=at + settings.ttl * settings.period,
            pools=pools(made, layout, mind.memory.reason),
            cgroups=targets,
            stale=stale,
            noisy=noisy,
        )
        if last is not None and self._parts is None:  # by an earlier life
            changed = (last.cgroups, _sizes(last)) != (advice.cgroups, _sizes(advice))
        self.advice, self._parts, self.seq = advice, parts, advice.seq
        lines = _lines(advice, made, mind, pods, settings) if changed else ()
        why = "changed" if changed else "renewed"
        return (Put(ADVICE.at(node=advice.node), advice), Count(ADVISED, labels={"why": why}), *lines)

    def offer(self, at: Seconds, lending: Lending, settings: Settings) -> Sequence[Instruction]:
        """Nothing, unless an offer moved enough or was said long ago."""
        last = self._headroom
        is_new = last is not None and at - last.at < settings.refresh * settings.period
        if last is not None and is_new and not lending.differs(last, settings.publish_change):
            return ()
        self._headroom = Headroom(
            at=at,
            source=NAME,
            node=settings.node,
            offer=lending.offer,
            arithmetic=lending.arithmetic,
            survival=lending.survival(settings),
            promised=lending.promised(settings),
            stale=lending.stale,
        )
        return (Put(HEADROOM.at(node=settings.node), self._headroom),)


def _lines(
    advice: NodeAdvice, made: Plan, mind: Mind, pods: Sequence[Pod], settings: Settings
) -> Sequence[Instruction]:
    offered = mind.lending.told(settings) if mind.lending is not None else "not all usage known yet"
    scene = Scene(advice, made.cpus_of, offered, made.binding.notes)
    pause = settings.squeeze_every * settings.period
    return [Decide(line) for line in tell(scene, pods, mind.told, loss=settings.squeeze, pause=pause)]


def _sizes(advice: NodeAdvice) -> dict[str, str]:
    return {pool.name: pool.cpus for pool in advice.pools}
