"""Making one pod's three stories agree: what the API has, what the bus was told, and what the ledgers hold.

    API                         told, held                           then
    asks for neap, no node      not told                             Submitted
    asks for neap, no node      held on n                            Bind to n
    on n                        not held on n, not told so           Submitted(node=n): it is there, whoever placed it
    on n                        held elsewhere                       that attempt is Ended(refused); then as above
    runs on n, held on n        not told                             Started
    has another size on n       not told, nor held so                Started(size=...)
    over                        told or held                         Ended(finished)
    gone                        told or held                         Ended(deleted)

Called whenever anything about a pod changed, in any order, any number of times: a restart at any moment, a repeated
event or a late one lead to the same place. A pod that the API does not have may be one that our view lacks still: it
is missed for `unknown_patience` before it counts as gone, unless its deletion was heard.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any, Protocol

import msgspec

from neap.common.errors import InputError
from neap.common.kube.objects import Pod
from neap.common.model.lifecycle import Ended, EndReason, LifecycleEvent, Measured, Started, Submitted
from neap.common.model.workload import Size, Workload
from neap.common.runtime.machine import Count, Instruction
from neap.common.units import Seconds, format_duration
from neap.gateway.core import lines
from neap.gateway.core.acts import AlreadyGone, AskWhy, Bind, Bound, LostRace, Refused
from neap.gateway.core.events import Events
from neap.gateway.core.pods.book import SOURCE, Hold, Holds, Run, Runs
from neap.gateway.core.pods.facts import PodFacts, ids_of, occupant_of, workload_of
from neap.gateway.core.pods.given import given
from neap.gateway.core.pods.owners import Owners
from neap.gateway.settings import Settings

MOST_TRIES = 16  # doublings of a back-off
LATER: Seconds = 0.001  # what is told of a size is younger than what was told before, whatever a clock says


class Evicted(Protocol):
    """Who was asked to go, and why."""

    def why(self, uid: str) -> str:
        """Empty for who was not."""


class Settler:
    """See module docstring. `token` is the leadership; nobody is told anything without one."""

    def __init__(self, settings: Settings, runs: Runs, holds: Holds, owners: Owners, events: Events) -> None:
        self._settings, self._runs, self._holds, self._owners, self._events = settings, runs, holds, owners, events
        self.pods: dict[str, PodFacts] = {}
        self.binding: dict[str, Bind] = {}
        self._retries: dict[str, tuple[int, Seconds]] = {}  # uid -> tries, not before
        self._later: dict[str, None] = {}  # to be looked at again at the next tick
        self._missing: dict[str, Seconds] = {}
        self._asks: list[tuple[Seconds, str]] = []  # when to ask why a pod waits
        self._fresh: Pod | None = None  # the pod that is being looked at, whole
        self.may_speak = False  # everything was read, and this gateway leads
        self.may_bind = True  # what is known of pods and nodes is fresh enough
        self.is_blind = False  # nothing is heard of pods at the moment
        self.is_behind = True  # not all that was told before has been read
        self.token = 0
        self.evicted: Evicted | None = None

    # -- what happens --------------------------------------------------------------------------------------------------

    def see(self, facts: PodFacts, pod: Pod, at: Seconds) -> list[Instruction]:
        """A pod is there, or changed."""
        self._missing.pop(pod.metadata.uid, None)
        self._fresh = pod
        try:
            return self.settle(facts.uid, at)
        finally:
            self._fresh = None
            if self._is_untold(facts):
                facts.keep(pod)
            else:
                facts.kept = b""

    def gone(self, uid: str, at: Seconds) -> list[Instruction]:
        """Its deletion was heard."""
        for kept in (self._missing, self._retries, self._later):
            kept.pop(uid, None)
        if not self.may_speak:
            if uid in self._runs.open or self._alive(uid):
                self._missing[uid] = at - self._settings.unknown_patience
            return []
        return self._close(uid, EndReason.DELETED, self._gone_why(uid), at)

    def settle_all(self, at: Seconds) -> list[Instruction]:
        """Everything was read, or this gateway leads from here on."""
        said: list[Instruction] = []
        for uid in dict.fromkeys((*self.pods, *self._runs.open, *self._holds.uids)):
            said += self.settle(uid, at)
        for facts in self.pods.values():
            facts.kept = facts.kept if self._is_untold(facts) else b""
        return said

    def tick(self, at: Seconds) -> list[Instruction]:
        """What waited for time to pass."""
        if not self.may_speak:
            return []
        due, self._later = (
            [uid for uid in self._later if self._retries.get(uid, (0, at))[1] <= at],
            {uid: None for uid in self._later if self._retries.get(uid, (0, at))[1] > at},
        )
        said = [act for uid in due for act in self.settle(uid, at)]
        if not self.is_blind:
            patience = self._settings.unknown_patience
            lost = [uid for uid, since in self._missing.items() if at - since >= patience]
            for uid in lost:
                del self._missing[uid]
                why = f"the API has not had it for {format_duration(patience)}"
                said += self._close(uid, EndReason.DELETED, why, at)
        return said + self._ask(at)

    # -- one pod -------------------------------------------------------------------------------------------------------

    def settle(self, uid: str, at: Seconds) -> list[Instruction]:
        """See module docstring."""
        if not self.may_speak:
            return []
        facts, run, alive = self.pods.get(uid), self._runs.open.get(uid), self._alive(uid)
        if facts is None:
            if (run is not None and run.ours) or any(hold.ours for hold in alive):
                self._missing.setdefault(uid, at)
            return []
        if facts.over or (facts.deleting and not facts.node):
            reason = EndReason.FINISHED if facts.over else EndReason.DELETED
            return self._close(uid, reason, facts.phase.lower() or "deleted before it had a node", at)
        if self._runs.over(uid):
            return []
        if facts.node:
            return self._placed(facts, run, alive, at)
        if facts.gated or not facts.asks or uid in self.binding:
            return []
        if run is None or run.submitted < 1:
            return self._submit(facts, "", 1, at)
        if alive:
            return self._bind(facts, max(alive, key=lambda hold: (hold.attempt, hold.node)), at)
        return []

    def _alive(self, uid: str) -> list[Hold]:
        """Where an attempt of it is held that is not over."""
        if self._runs.over(uid):
            return []
        run = self._runs.open.get(uid)
        return [hold for hold in self._holds.of(uid) if run is None or hold.attempt >= run.attempt]

    def _is_untold(self, facts: PodFacts) -> bool:
        """Whether telling of it will need the whole pod."""
        if facts.over or self._runs.over(facts.uid) or not (facts.asks or facts.node):
            return False
        run = self._runs.open.get(facts.uid)
        if not facts.node:
            return run is None or run.submitted < 1
        here = next((hold for hold in self._alive(facts.uid) if hold.node == facts.node), None)
        if here is None and (run is None or run.adopted < run.attempt):
            return True
        return bool(facts.size) and (self.is_behind or facts.size != _told_size(run, here))

    def _placed(self, facts: PodFacts, run: Run | None, alive: list[Hold], at: Seconds) -> list[Instruction]:
        """It has a node; it will have no other."""
        here = [hold for hold in alive if hold.node == facts.node]
        said: list[Instruction] = []
        if not here:
            for hold in alive:
                why = f"the API has it on {facts.node}, so not on {hold.node}"
                said += self._end(facts.uid, hold, EndReason.REFUSED, why, at)
            run = self._runs.open.get(facts.uid)
            attempt = run.attempt if run is not None else 1
            if self._settings.adopt and (run is None or run.adopted < attempt):
                said += self._submit(facts, facts.node, attempt, at)
            return said
        self._holds.settle(facts.uid)
        return said + self._running(facts, run, here[0], at)

    def _running(self, facts: PodFacts, run: Run | None, hold: Hold, at: Seconds) -> list[Instruction]:
        """It is where it is held: said once it runs, and again whenever it has another size."""
        starts = bool(facts.ids) and (run is None or run.started < hold.attempt)
        runs = starts or (run is not None and run.started >= hold.attempt)
        size = self._new_size(facts, run, hold) if runs else None
        if not starts and size is None:
            return []
        if size is not None and run is not None:
            at = max(at, run.sized_at + LATER)
        ids, facts.ids = dict(facts.ids), ()
        names = {"source": SOURCE, "uid": facts.uid, "node": facts.node}
        started = Started(at=at, **names, attempt=hold.attempt, containers=ids, size=size)
        return [self._tell(started, facts.namespace, facts.name)]

    def _new_size(self, facts: PodFacts, run: Run | None, hold: Hold) -> Size | None:
        """What it really has, where that is neither told nor held; None where it is, or cannot be known now."""
        pod = self._fresh if self._fresh is not None else facts.whole()
        has = given(pod) if facts.size and facts.size != _told_size(run, hold) and pod is not None else None
        if has is None:
            return None
        try:
            size = occupant_of(has, "").size
        except InputError:
            return None  # its limits are below its requests, or the like: not for long
        facts.kept, facts.ids = b"", facts.ids or ids_of(has)
        return size

    # -- submitting ----------------------------------------------------------------------------------------------------

    def _submit(self, facts: PodFacts, node: str, attempt: int, at: Seconds) -> list[Instruction]:
        pod = self._fresh if self._fresh is not None else facts.whole()
        if pod is None:
            return []  # it comes with its next change
        if not self._owners.knows(pod.metadata) and at - facts.seen < self._settings.owner_patience:
            self._later[facts.uid] = None
            return []
        owner = self._owners.of(pod.metadata)
        try:
            make = occupant_of if node else workload_of
            has = given(pod) if node else None
            workload = make(has if has is not None else pod, owner, also=self._settings.keep_annotations)
        except InputError as error:
            return self._refuse(facts, str(error), at)
        workload = msgspec.structs.replace(workload, attempt=attempt)
        facts.kept, facts.refused = b"", ""
        submitted = Submitted(at=at, source=SOURCE, workload=workload, node=node)
        if not node:
            heappush(self._asks, (at + self._settings.why_after, facts.uid))
        labels = {"what": "adopted" if node else "submitted"}
        return [
            self._tell(submitted, facts.namespace, facts.name),
            _first_line(workload, pod, node, at),
            Count("neap_gateway_pods_total", labels=labels),
        ]

    def _refuse(self, facts: PodFacts, why: str, at: Seconds) -> list[Instruction]:
        """Said once in these words; its next change is its next chance."""
        if facts.refused == why:
            return []
        facts.refused = why
        pod = lines.about(facts.namespace, facts.name, facts.uid)
        return [
            Count("neap_gateway_pods_total", labels={"what": "refused"}),
            lines.line(pod, at, "refused", why, id=f"refused.{hash_of(why)}", root=True),
            *self._events.say(pod, "NotUnderstood", why, at, action="Reading", warning=True),
        ]

    # -- binding -------------------------------------------------------------------------------------------------------

    def _bind(self, facts: PodFacts, hold: Hold, at: Seconds) -> list[Instruction]:
        _, not_before = self._retries.get(facts.uid, (0, at))
        if at < not_before or not self.may_bind:
            self._later[facts.uid] = None
            return []
        bind = Bind(facts.namespace, facts.name, facts.uid, hold.node, hold.attempt, self.token, hold.why)
        self.binding[facts.uid] = bind
        return [bind]

    def answered(self, bind: Bind, outcome: Any, at: Seconds) -> list[Instruction]:
        """A binding is decided."""
        self.binding.pop(bind.uid, None)
        self._retries.pop(bind.uid, None)
        facts = self.pods.get(bind.uid)
        counted = Count("neap_gateway_binds_total", labels={"outcome": type(outcome).__name__})
        hold = next((one for one in self._holds.of(bind.uid) if one.node == bind.node), None)
        match outcome:
            case Bound():
                return [counted, *self._bound(bind, facts, at)]
            case LostRace(why=why, node=node):
                if facts is not None and node:
                    facts.node = node
                self._seen_again(facts)
                return [counted, *self._lost(bind, hold, why, at), *self.settle(bind.uid, at)]
            case Refused(why=why):
                return [counted, *self._lost(bind, hold, f"the API refused it: {why}", at)]
            case AlreadyGone():
                self._missing.setdefault(bind.uid, at)
        return [counted]

    def failed(self, bind: Bind, error: str, at: Seconds) -> list[Instruction]:
        """The API could not be asked; it is asked again, less and less often."""
        self.binding.pop(bind.uid, None)
        tries = self._retries.get(bind.uid, (0, at))[0]
        delay = min(self._settings.bind_last, self._settings.bind_first * 2.0 ** min(tries, MOST_TRIES))
        self._retries[bind.uid] = tries + 1, at + delay
        self._later[bind.uid] = None
        said: list[Instruction] = [Count("neap_gateway_binds_total", labels={"outcome": "failed"})]
        if tries == 0:
            pod = lines.about(bind.namespace, bind.name, bind.uid)
            why = f"could not be bound to {bind.node}: {error}; asked again"
            said.append(lines.line(pod, at, "not bound", why, id=f"{bind.attempt}.not-bound", node=bind.node))
        return said

    def _bound(self, bind: Bind, facts: PodFacts | None, at: Seconds) -> list[Instruction]:
        if facts is not None:
            facts.node = bind.node
        pod = lines.about(bind.namespace, bind.name, bind.uid)
        why = bind.why or f"{bind.node}: as its ledger says"
        waited = at - facts.seen if facts is not None else 0.0
        number = Measured(metric="seconds since it was seen", value=waited, threshold=0.0)
        return [
            lines.line(pod, at, "bound", why, id=f"{bind.attempt}.bound", node=bind.node, numbers=(number,)),
            *self._events.say(pod, "Scheduled", f"bound to {why}", at, action="Binding"),
            *self.settle(bind.uid, at),
        ]

    def _lost(self, bind: Bind, hold: Hold | None, why: str, at: Seconds) -> list[Instruction]:
        if hold is None or hold not in self._alive(bind.uid):
            return []
        return self._end(bind.uid, hold, EndReason.REFUSED, why, at)

    def _seen_again(self, facts: PodFacts | None) -> None:
        """What is told next needs the whole pod, which its next change brings."""
        if facts is not None and facts.uid not in self._later:
            self._later[facts.uid] = None

    # -- endings -------------------------------------------------------------------------------------------------------

    def _close(self, uid: str, reason: EndReason, detail: str, at: Seconds) -> list[Instruction]:
        """The pod is over for ever; said if anybody was told that there is one."""
        run, alive = self._runs.open.get(uid), self._alive(uid)
        if run is None and not alive:
            return []
        hold = max(alive, key=lambda one: one.attempt, default=None)
        return self._end(uid, hold, reason, detail, at)

    def _end(self, uid: str, hold: Hold | None, reason: EndReason, detail: str, at: Seconds) -> list[Instruction]:
        run = self._runs.open.get(uid)
        attempt = max(hold.attempt if hold is not None else 1, run.attempt if run is not None else 1)
        namespace, name = (run.namespace, run.name) if run is not None else (hold.namespace, hold.name)  # type: ignore[union-attr]
        node = hold.node if hold is not None else ""
        detail = detail[: lines.LONGEST_DETAIL]
        ended = Ended(at=at, source=SOURCE, uid=uid, node=node, attempt=attempt, reason=reason, detail=detail)
        pod = lines.about(namespace, name, uid)
        return [
            self._tell(ended, namespace, name),
            lines.line(pod, at, str(reason), detail, id=f"{attempt}.{reason}", node=node),
            Count("neap_gateway_ends_total", labels={"reason": str(reason)}),
        ]

    def _gone_why(self, uid: str) -> str:
        evicted = self.evicted.why(uid) if self.evicted is not None else ""
        return f"evicted: {evicted}" if evicted else "deleted"

    def _tell(self, event: LifecycleEvent, namespace: str, name: str) -> Instruction:
        self._runs.fold(event, namespace, name)
        return lines.told(event, namespace, name)

    # -- why it waits --------------------------------------------------------------------------------------------------

    def _ask(self, at: Seconds) -> list[Instruction]:
        said: list[Instruction] = []
        while self._asks and self._asks[0][0] <= at and len(said) < self._settings.why_most:
            _, uid = heappop(self._asks)
            facts = self.pods.get(uid)
            waits = facts is not None and not facts.node and not self._runs.over(uid) and not self._alive(uid)
            if facts is not None and waits:
                said.append(AskWhy(facts.namespace, facts.name, uid))
                heappush(self._asks, (at + self._settings.why_every, uid))
        return said

    def validate(self) -> None:
        """Nobody is bound twice, and what is bound is held where it is bound to."""
        for uid, bind in self.binding.items():
            assert bind.uid == uid, f"{uid} is bound as {bind.uid}"
        for uid, facts in self.pods.items():
            assert facts.uid == uid, f"{uid} is kept as {facts.uid}"


def _told_size(run: Run | None, hold: Hold | None) -> int:
    """As it was told last, or else is held; 0: nobody knows."""
    if run is not None and run.size:
        return run.size
    return hold.size if hold is not None else 0


def _first_line(workload: Workload, pod: Pod, node: str, at: Seconds) -> Instruction:
    size = ", ".join(f"{kind} {amount}" for kind, amount in sorted(workload.requests.items())) or "nothing"
    about = lines.about(workload.namespace, workload.name, workload.uid)
    if node:
        why = f"it is on {node}, placed by {pod.spec.scheduler_name or 'somebody else'}; {workload.qos}, asks {size}"
    else:
        why = f"Kubernetes: {workload.qos}, asks {size}" + (f", of {workload.owner}" if workload.owner else "")
    what = "found" if node else "submitted"
    return lines.line(
        about, at, what, why, id=f"{workload.attempt}.{what}", node=node, parent=workload.owner, root=True
    )


def hash_of(text: str) -> str:
    """Eight characters that differ where sentences do."""
    return f"{int.from_bytes(text.encode()[:4096], 'big') % 4294967291:08x}"
