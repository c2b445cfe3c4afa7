"""The scheduler's answers: EXPLAIN, for a workload it knows, DRY_RUN and WEIGH, for workloads it does not.

A placed workload is weighed as if it were not there, against the present state: "would it go there again?" (What it
uses by itself stays in what was measured.) A dry run decides as the cycle does, one workload after the other on what
the ones before would leave, and takes everything off again: asking changes no column and wakes nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from neap.common.model.explanation import DryRun, DryRunAnswer, ExplainRequest, Explanation
from neap.common.model.weighing import Weighing, WeighRequest
from neap.common.model.workload import Workload
from neap.scheduler.core.choice.framework import Policy
from neap.scheduler.core.flow.book import Record
from neap.scheduler.core.flow.desk import Desk
from neap.scheduler.core.pods.admission import refusal
from neap.scheduler.core.pods.pod import Pod
from neap.scheduler.core.why import tell, weigh
from neap.scheduler.core.why.explain import Verdict, cut, explain

MOST_IN_FULL: Final = 16  # explanations of one dry run that are told in full


@dataclass(frozen=True, slots=True)
class Answers:
    """See module docstring."""

    desk: Desk
    policies: Sequence[Policy]

    def explain(self, request: ExplainRequest) -> Explanation:
        """Why a workload is where it is, or nowhere."""
        desk, name = self.desk, f"{request.namespace}/{request.name}"
        record = desk.book.named(request.namespace, request.name)
        if record is None:
            return Explanation(found=False, state="unknown", name=name, reason="no workload of this name was heard of")
        place, op = desk.ledgers.find(record.uid), desk.appends.of(record.uid)
        workload = desk.workload(record.uid)
        if place is not None:
            node, held = place
            told = Explanation(found=True, state="placed", name=name, node=node, reason=held.reason, at=held.at)
            return _with(told, self._without(node, held.placement.workload))
        if op is not None and workload is not None:
            why = f"append {op.id} is {op.fate}"
            told = Explanation(found=True, state="queued", name=name, node=op.node, reason=why)
            return _with(told, self._without(op.node, workload))
        if record.workload is None or record.ended is not None:
            why = f"{record.ended}: {record.detail}" if record.ended else "not yet read"
            return Explanation(found=True, state="ended" if record.ended else "queued", name=name, reason=cut(why))
        return self._waiting(record, record.workload, name)

    def dry_run(self, request: DryRun) -> DryRunAnswer:
        """Where each of these would go, on top of the ones before it."""
        table, seen, taken = self.desk.table, set[object](), list[tuple[str, str]]()
        answers = list[Explanation]()
        with table.trial():
            try:
                for number, asked in enumerate(request.workloads):
                    workload = msgspec.structs.replace(asked, uid=f"dry-run.{number}", attempt=1)
                    reason = refusal(workload)
                    if reason:
                        answers.append(Explanation(found=True, state="refused", name=asked.key, reason=cut(reason)))
                        continue
                    pod = self._pod(workload)
                    in_full = pod.lane not in seen and len(seen) < MOST_IN_FULL
                    seen.add(pod.lane)
                    answers.append(self._tried(pod, taken, in_full=in_full))
            finally:
                for node, uid in reversed(taken):
                    table.discharge(node, uid)
        return DryRunAnswer(answers=tuple(answers))

    def weigh(self, request: WeighRequest) -> Weighing:
        """What every node is to a workload, were it submitted now."""
        workload = msgspec.structs.replace(request.workload, uid="weighed", attempt=1)
        if reason := refusal(workload):
            return weigh.refused(self.desk.table, request.nodes, cut(reason))
        found = self.desk.cycle.weigh(self._pod(workload))
        return weigh.told(self.desk.table, request.nodes, *found, quantum=self.desk.settings.quantum)

    def _tried(self, pod: Pod, taken: list[tuple[str, str]], *, in_full: bool) -> Explanation:
        verdict = self._weigh(pod) if in_full else None
        decision = self.desk.cycle.decide(pod)
        if decision.placement is not None:
            taken.append((decision.node, pod.uid))
            told = self._told(pod, "fits", decision.node, tell.placed_why(decision))
        elif decision.busy:
            told = self._told(pod, "fits", "", "waits a moment for the ledger of a node that takes it")
        else:
            told = self._told(pod, "waiting", "", tell.waiting_why(decision))
        return told if verdict is None else _with(told, verdict)

    def _told(self, pod: Pod, state: str, node: str, reason: str) -> Explanation:
        return Explanation(found=True, state=state, name=pod.workload.key, node=node, reason=cut(reason))

    def _waiting(self, record: Record, workload: Workload, name: str) -> Explanation:
        verdict = self._weigh(self.desk.queue.pod(record.uid) or self._pod(workload))
        turn = f"{verdict.feasible} nodes fit; waits for its turn, at the earliest at {record.ready_at:.0f}"
        reason = turn if verdict.feasible else tell.waiting_why(verdict)
        if not verdict.feasible and (refused := self.desk.refusals.latest):
            reason = f"{reason}; {refused}"
        reason = "; ".join((*self._held_back(record.uid), reason))
        return _with(Explanation(found=True, state="queued", name=name, reason=reason), verdict)

    def _held_back(self, uid: str) -> tuple[str, ...]:
        """What beside the nodes it waits for: guests that leave for it, the other members of its gang."""
        pod, (node, _) = self.desk.queue.pod(uid), self.desk.nominated.get(uid, ("", 0))
        if node:
            return (f"a place on {node} is kept for it until those who hold it have left",)
        slept = self.desk.queue.verdict(pod) if pod is not None else None
        return slept.why if slept is not None else ()

    def _without(self, node: str, workload: Workload) -> Verdict:
        with self.desk.table.without(node, workload.uid):
            return self._weigh(self._pod(workload))

    def _pod(self, workload: Workload) -> Pod:
        return self.desk.profiles.pod(workload)

    def _weigh(self, pod: Pod) -> Verdict:
        settings = self.desk.settings
        return explain(
            pod,
            self.desk.table,
            self.policies,
            quantum=settings.quantum,
            worth_waiting=settings.worth_waiting,
        )


def _with(told: Explanation, verdict: Verdict) -> Explanation:
    return msgspec.structs.replace(
        told,
        nodes=verdict.nodes,
        feasible=verdict.feasible,
        rejected=verdict.rejected,
        wakes_on=tuple(sorted(verdict.wakes)),
        best=verdict.best,
        second=verdict.second,
        remedies=verdict.remedies,
        closest=verdict.closest,
        waits_for=verdict.waits_for,
        parts=verdict.parts,
    )
