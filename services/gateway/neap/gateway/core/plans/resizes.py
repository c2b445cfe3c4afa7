"""Resizes: commands to give the pods of a service another size, from now on and for pods to come.

    in-place    every running pod by its resize subresource, one at first, then `share` of them at once; each is followed
                until its kubelet says done, infeasible, or deferred (told once, followed on). Pods to come get the size
                at admission, by a note on their owner (sizes.py): a template cannot be changed without a roll-out
    recreate    the owner's template, nothing but the named amounts; its controller rolls within its own limits
    best        in place; where the API server has no pods/resize, recreate

A watch may be behind: a pod made before its owner's note may be seen after it. So a command ends no earlier than `wait`
after the note. What the API refuses of the first pod it would refuse of all: said once for the service, and nobody else
is asked. The command stays on the bus until it is done or older than `patience`; after a restart pods are read and only
what differs is asked again. Of two commands for one service the later one counts. Who was told of is not told again.
The ledger charges a pod what its kubelet has given it, whoever asked for that (pods/given.py).
Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers"; ADR 21 (what is charged).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from neap.common.contract.catalogue import RESIZED
from neap.common.errors import InputError
from neap.common.kube.kind import Kind
from neap.common.kube.objects import DAEMON_SETS, DEPLOYMENTS, PODS, STATEFUL_SETS, Pod
from neap.common.model.recommendation import Resize, Resized, ResizeHow
from neap.common.runtime.machine import Count, Emit, Instruction, Later
from neap.common.units import MINUTE, Ratio, Seconds, format_duration
from neap.gateway.core import lines
from neap.gateway.core.acts import Impossible, ReadObject, Refused, ResizePod, SizeOwner, Written
from neap.gateway.core.events import Events
from neap.gateway.core.plans.sizes import Fate, Sizes, changes, fate, wanted
from neap.gateway.core.pods.book import SOURCE
from neap.gateway.core.pods.facts import PodFacts
from neap.gateway.core.pods.replicas import Replicas

TEMPLATED: Final[Mapping[str, Kind[Any]]] = {one.name: one for one in (DEPLOYMENTS, STATEFUL_SETS, DAEMON_SETS)}
FINAL: Final = frozenset({"done", "infeasible", "refused", "gone"})
REASONS: Final = {"deferred": "ResizeDeferred", "infeasible": "ResizeInfeasible", "refused": "ResizeRefused"}
REMEMBERED: Final = 1024  # commands


class ResizeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See module docstring."""

    share: Annotated[Ratio, Meta(gt=0, le=1)] = 0.1  # of a service's pods at once, and one at least
    wait: Annotated[Seconds, Meta(gt=0)] = MINUTE  # for a pod that says nothing, and for pods that are seen late
    again: Annotated[Seconds, Meta(gt=0)] = 5.0  # after which a command is looked at again
    patience: Annotated[Seconds, Meta(gt=0)] = 30 * MINUTE  # from the command on; the bus keeps it for an hour


@dataclass(slots=True)
class _Asked:
    since: Seconds
    written: bool = False  # the API took it; else it is being read or asked
    outcome: str = ""  # as it was told last


@dataclass(slots=True)
class _Change:
    """One command under way."""

    resize: Resize
    to: Sizes
    template: bool
    pods: dict[str, _Asked] = field(default_factory=dict)
    owner: str = ""  # "asked", or what became of it
    since: Seconds = 0.0  # the owner's answer: whoever is made later has the size, whoever was made before is seen soon

    @property
    def id(self) -> str:
        """Of the command."""
        return f"{_key(self.resize)}/{self.resize.version}/{self.resize.at:.3f}"

    @property
    def done(self) -> bool:
        """Whether some pod has its new size."""
        return any(one.outcome == "done" for one in self.pods.values())


class Resizes:
    """See module docstring. `pods`: what is kept of every pod, by uid."""

    def __init__(self, settings: ResizeSettings, replicas: Replicas, events: Events) -> None:
        self._settings, self._replicas, self._events = settings, replicas, events
        self.pods: dict[str, PodFacts] = {}
        self._open: dict[str, _Change] = {}  # by service
        self._over: OrderedDict[str, None] = OrderedDict()  # commands
        self._latest: OrderedDict[str, tuple[Seconds, str]] = OrderedDict()  # by service

    def handle(self, resize: Resize, at: Seconds, doubt: str) -> Sequence[Instruction]:
        """A command came, or came again. `doubt`: why nobody is resized on what is known now."""
        key, change, order = _key(resize), self._open.get(_key(resize)), (resize.at, resize.version)
        if order < self._latest.get(key, order):
            return [_counted("superseded")]
        self._latest[key] = order
        self._latest.move_to_end(key)
        while len(self._latest) > REMEMBERED:
            self._latest.popitem(last=False)
        if change is None or change.resize != resize:
            self._open.pop(key, None)
            try:
                change = _Change(resize, wanted(resize), resize.how is ResizeHow.RECREATE)
            except InputError as error:
                change = _Change(resize, {}, template=True)
                return [] if change.id in self._over else self._refuse(change, str(error), at)
        if change.id in self._over:
            return ()
        if at - resize.at > self._settings.patience:
            left = [uid for uid, one in change.pods.items() if one.outcome not in FINAL]
            why = f"given up after {format_duration(at - resize.at)}, {len(left)} pods are not done"
            self._close(change)
            return [_counted("expired"), *self._line(change, "resize given up", why, at)]
        if doubt:
            return [Later(self._settings.again)]
        self._open[key] = change
        if change.template and resize.kind not in TEMPLATED:
            return self._refuse(change, f"a {resize.kind}'s template cannot be changed, its pods only in place", at)
        return self._step(change, at)

    def see(self, facts: PodFacts, pod: Pod, at: Seconds) -> Sequence[Instruction]:
        """A pod as it is now, whether it changed or was read."""
        change = self._open.get(self._replicas.owner(facts.uid))
        asked = change.pods.get(facts.uid) if change is not None else None
        if change is None or asked is None or asked.outcome in FINAL:
            return ()
        return self._judge(change, asked, facts, pod, at, may_ask=False)

    def forget(self, uid: str) -> None:
        """It is gone."""
        for change in self._open.values():
            if uid in change.pods and change.pods[uid].outcome != "done":
                change.pods[uid].outcome = "gone"

    def follow(self) -> None:
        """Somebody else acts from here on; whoever comes back reads pods again."""
        self._open.clear()
        self._over.clear()

    # -- steps ---------------------------------------------------------------------------------------------------------

    def _step(self, change: _Change, at: Seconds) -> list[Instruction]:
        """Whatever can be asked now; the command ends with the last pod and the owner."""
        if change.template:
            return [*self._ask_owner(change, at), Later(self._settings.again)]
        uids = self._replicas.of(_key(change.resize))
        alive = [facts for uid in uids if (facts := self.pods.get(uid)) and not (facts.over or facts.deleting)]
        told: list[Instruction] = []
        waiting = [one for one in change.pods.values() if not one.outcome and at - one.since < self._settings.wait]
        room = (max(1, int(self._settings.share * len(alive))) if change.done else 1) - len(waiting)
        for facts in alive:
            if room > 0 and facts.uid not in change.pods and facts.phase == "Running":
                room -= 1
                change.pods[facts.uid] = _Asked(at)
                told.append(ReadObject(PODS, facts.namespace, facts.name))
        if change.done or not alive:
            told += self._ask_owner(change, at)
        left = [facts for facts in alive if (one := change.pods.get(facts.uid)) is None or one.outcome not in FINAL]
        if left or change.owner == "asked" or at - change.since < self._settings.wait:
            return [*told, Later(self._settings.again)]
        self._close(change)
        return told

    def _ask_owner(self, change: _Change, at: Seconds) -> list[Instruction]:
        resize = change.resize
        kind = TEMPLATED.get(resize.kind)
        if change.owner:
            return []
        if kind is None:
            change.owner, change.since = "none", at
            return []
        change.owner = "asked"
        to, version = change.to, resize.version
        return [SizeOwner(kind, resize.namespace, resize.name, to, version, change.id, change.template)]

    def read(self, pod: Pod | None, namespace: str, name: str, at: Seconds) -> Sequence[Instruction]:
        """A pod that was to be read; None: it is gone, or could not be."""
        uid = pod.metadata.uid if pod is not None else ""
        for change in self._open.values():
            for mine, asked in change.pods.items():
                facts = self.pods.get(mine)
                if facts is None or asked.written or asked.outcome or facts.key != f"{namespace}/{name}":
                    continue
                if pod is None or uid != mine:
                    del change.pods[mine]
                    return ()
                return self._judge(change, asked, facts, pod, at)
        return ()

    def _judge(
        self, change: _Change, asked: _Asked, facts: PodFacts, pod: Pod, at: Seconds, *, may_ask: bool = True
    ) -> Sequence[Instruction]:
        try:
            different = changes(pod.spec.containers, change.to)
        except InputError as error:
            return self._settle(change, asked, facts, Fate("refused", str(error)), at)
        if not different:
            asked.written = True  # its kubelet may be done before the API's answer is here
            return self._settle(change, asked, facts, fate(pod, change.to), at)
        if asked.written or not may_ask:
            return ()  # an older view; or somebody wants another size: he asked later
        return [ResizePod(facts.namespace, facts.name, facts.uid, different, change.id)]

    def answered(self, act: ResizePod, outcome: Any, at: Seconds) -> Sequence[Instruction]:
        """The API server said what becomes of a pod's new size."""
        change = self._named(act.plan)
        asked = change.pods.get(act.uid) if change is not None else None
        if change is None or asked is None:
            return ()
        facts = self.pods.get(act.uid)
        match outcome:
            case Written():
                asked.written = True  # its status follows
            case Refused(why=why) if facts is not None:
                return self._settle(change, asked, facts, Fate("refused", why), at)
            case Impossible() if change.template:
                return ()
            case Impossible(why=why):
                if change.resize.how is ResizeHow.BEST:
                    change.template, change.owner = True, ""
                    return self._ask_owner(change, at) or self._refuse(change, f"{why}; it has no template", at)
                return self._refuse(change, why, at)
            case _:
                asked.outcome = "gone"
        return ()

    def sized(self, act: SizeOwner, outcome: Any, at: Seconds) -> Sequence[Instruction]:
        """The API server said what becomes of the owner's."""
        change = self._named(act.plan)
        if change is None:
            return ()
        change.since = at
        match outcome:
            case Written(why=why) if act.template:
                change.owner = "recreating"
                self._close(change)
                detail = "its controller makes its pods anew" if why else "its template said so before"
                return self._tell(change, Fate("recreating" if why else "done", detail), at)
            case Written():
                change.owner = "done"
                return self._tell(change, Fate("done", "pods made later get it at admission"), at)
            case Refused(why=why) if act.template:
                return self._refuse(change, why, at)
            case Refused(why=why):
                change.owner = "refused"
                return self._tell(change, Fate("refused", f"pods made later keep their template's size: {why}"), at)
        return self._refuse(change, "it is gone", at)

    def failed(self, act: ReadObject | ResizePod | SizeOwner) -> None:
        """It could not be asked; the command comes again."""
        match act:
            case ReadObject(namespace=namespace, name=name):
                self.read(None, namespace, name, 0.0)
            case ResizePod(plan=plan, uid=uid):
                if (change := self._named(plan)) is not None:
                    change.pods.pop(uid, None)
            case SizeOwner(plan=plan):
                if (change := self._named(plan)) is not None:
                    change.owner = ""

    # -- telling -------------------------------------------------------------------------------------------------------

    def _settle(
        self, change: _Change, asked: _Asked, facts: PodFacts, found: Fate, at: Seconds
    ) -> Sequence[Instruction]:
        """One pod came to something; the next one's turn."""
        if not found.outcome or found.outcome == asked.outcome:
            return ()
        first = not any(one.outcome for one in change.pods.values())
        asked.outcome = found.outcome
        if found.outcome == "refused" and first:
            return self._refuse(change, f"{facts.name}: {found.detail}", at)
        pod, why = lines.about(facts.namespace, facts.name, facts.uid), f"{found.detail}; {change.resize.reason}"
        told = [*self._tell(change, found, at, facts)]
        what = {"done": "resized", "deferred": "resize deferred"}.get(found.outcome, "not resized")
        why = why.removeprefix("; ")
        told.append(lines.line(pod, at, what, why, id=f"{what.replace(' ', '-')}.{change.resize.version}"))
        if found.outcome in REASONS:
            reason = REASONS[found.outcome]
            told += self._events.say(pod, reason, why, at, action="Resizing", warning=True)
        return [*told, *(one for one in self._step(change, at) if not isinstance(one, Later))]

    def _refuse(self, change: _Change, why: str, at: Seconds) -> list[Instruction]:
        """Of the whole service, once."""
        self._close(change)
        return [*self._tell(change, Fate("refused", why), at), *self._line(change, "not resized", why, at)]

    def _tell(self, change: _Change, found: Fate, at: Seconds, facts: PodFacts | None = None) -> list[Instruction]:
        resize, uid = change.resize, facts.uid if facts is not None else ""
        said = Resized(
            at=at, source=SOURCE, namespace=resize.namespace, kind=resize.kind, name=resize.name, uid=uid,
            version=resize.version, outcome=found.outcome, pod=facts.name if facts is not None else "",
            detail=found.detail,
        )  # fmt: skip
        try:
            where = RESIZED.at(namespace=resize.namespace, name=resize.name)
        except InputError:
            return [_counted("unnamed")]
        return [Emit(where, said, f"{change.id}/{uid}/{found.outcome}"), _counted(found.outcome)]

    def _line(self, change: _Change, what: str, why: str, at: Seconds) -> list[Instruction]:
        resize = change.resize
        about = lines.service(resize.namespace, resize.kind, resize.name)
        full = f"{why}; {resize.reason}" if resize.reason else why
        return [lines.line(about, at, what, full, id=f"{change.id}.{what.replace(' ', '-')}")]

    def _close(self, change: _Change) -> None:
        self._over[change.id] = None
        while len(self._over) > REMEMBERED:
            self._over.popitem(last=False)
        if self._open.get(_key(change.resize)) is change:
            del self._open[_key(change.resize)]

    def _named(self, id: str) -> _Change | None:
        return next((change for change in self._open.values() if change.id == id), None)


def _key(resize: Resize) -> str:
    return f"{resize.namespace}/{resize.kind}/{resize.name}"


def _counted(outcome: str) -> Count:
    return Count("neap_gateway_resizes_total", labels={"outcome": outcome})
