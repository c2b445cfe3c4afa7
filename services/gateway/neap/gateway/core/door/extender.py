"""kube-scheduler's extender protocol, filter and prioritize, as functions.

For clusters whose scheduler is to stay and whose scheduler configuration can be had. Nodes come as names only
(nodeCacheCapable) or whole.

    score = ⌊max(0, 10 − (best − verdict) / 2) + 1/2⌋, kube-scheduler's 0..10
    best: of the nodes asked about that fit; verdicts and best: 0..100

So the steps are two points of neap's. Tenths of its whole scale would make the emptiest and a half full node equal
wherever some plugins give both the same; what is 20 points behind is not worth having while the best one is there.

The verdicts come from the scheduler. Where they do not come in time, where a pod says nothing to neap or cannot be read,
all nodes pass, with equal scores: kube-scheduler's own rules hold then. A node without a verdict passes too.

    extenders:                                  # of a KubeSchedulerConfiguration
    - urlPrefix: https://neap-gateway.neap-system.svc:8443
      filterVerb: filter
      prioritizeVerb: prioritize
      weight: 10                                # a step of neap's is as much as a plugin of weight 1 can say
      httpTimeout: 10s                          # longer than door.deadline: "no verdicts" then comes before it gives up
      nodeCacheCapable: true
      ignorable: true                           # the gateway is away: its own rules
      tlsConfig: {caFile: /etc/kubernetes/neap/ca.crt}

Source: k8s.io/kube-scheduler/extender/v1 (fields have no JSON names: any case is read; MaxExtenderPriority 10).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from neap.common.contract.channel import MALFORMED
from neap.common.errors import InputError, WireError
from neap.common.kube.objects import Pod
from neap.common.model.weighing import FITS, Weighing
from neap.common.model.workload import Workload
from neap.gateway.core.door.admission import FAULTS, AdmissionSettings, concerns
from neap.gateway.core.door.reply import Reply, document
from neap.gateway.core.door.rules import read

MOST_NODES: Final = 20_000
BEST: Final = 10
STEP: Final = 2.0  # points of a verdict
LONGEST_REASON: Final = 256


class NodeVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """Of one node for one workload: why not (empty: it fits), and how well it suits, 0..100."""

    why: str = ""
    score: float = 0.0
    resolvable: bool = True  # waiting, or evicting somebody, could help


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of the scheduler; without a workload everything passes, for the reason `fault`."""

    names: tuple[str, ...] = ()
    nodes: tuple[Any, ...] | None = None  # whole nodes, where they were sent
    workload: Workload | None = None
    fault: str = ""


Verdicts = Mapping[str, NodeVerdict]


def verdicts(names: Sequence[str], told: Weighing) -> dict[str, NodeVerdict]:
    """The scheduler's answer about these nodes. One it does not know has no verdict; what is over in a moment fits."""
    if not len(names) == len(told.codes) == len(told.scores):
        raise WireError(f"{len(names)} nodes were asked about, and {len(told.codes)} codes came")
    found = dict[str, NodeVerdict]()
    for name, code, score in zip(names, told.codes, told.scores, strict=True):
        obstacle = told.obstacle(code)
        if code == FITS or (obstacle is not None and obstacle.brief):
            found[name] = NodeVerdict(score=score)
        elif obstacle is not None:
            why = " ".join(word for word in ("neap:", obstacle.plugin, obstacle.reason) if word)
            found[name] = NodeVerdict(why=why, resolvable=obstacle.resolvable)
    return found


def question(body: bytes, settings: AdmissionSettings) -> Question:
    """Who asks where to; never raises."""
    try:
        words = {key.lower(): value for key, value in msgspec.json.decode(body, type=dict[str, Any]).items()}
        nodes, names = _nodes(words)
    except (*MALFORMED, *FAULTS) as error:
        return Question(fault=f"unreadable: {error!s:.200}")
    asked = Question(names=names, nodes=nodes)
    try:
        pod = msgspec.convert(words.get("pod"), Pod)
        if not concerns(pod, settings):
            return asked
        workload = read(words["pod"], pod.metadata.namespace or "default")
    except InputError as error:
        return msgspec.structs.replace(asked, fault=str(error))
    except (*MALFORMED, *FAULTS) as error:
        return msgspec.structs.replace(asked, fault=f"unreadable: {error!s:.200}")
    uid = pod.metadata.uid or workload.uid
    return msgspec.structs.replace(asked, workload=msgspec.structs.replace(workload, uid=uid))


def _nodes(words: Mapping[str, Any]) -> tuple[tuple[Any, ...] | None, tuple[str, ...]]:
    """Whole nodes if they were sent, and all names."""
    listed = words.get("nodes")
    if listed is None:
        return None, tuple(str(name) for name in (words.get("nodenames") or ())[:MOST_NODES])
    nodes = tuple((listed.get("items") or listed.get("Items") or ())[:MOST_NODES])
    return nodes, tuple(str(node["metadata"]["name"]) for node in nodes)


def filtered(asked: Question, found: Verdicts | None, lack: str = "") -> Reply:
    """The nodes that are left, and why the others are not; `lack`: why nothing was found."""
    outcome = _outcome(asked, found, "filtered")
    found = found or {}
    failed = {name: found[name].why[:LONGEST_REASON] for name in asked.names if name in found and found[name].why}
    final = {name: why for name, why in failed.items() if not found[name].resolvable}
    left = [name for name in asked.names if name not in failed]
    result: dict[str, Any] = {
        "FailedNodes": {name: why for name, why in failed.items() if name not in final},
        "FailedAndUnresolvableNodes": final,
        "Error": "",
    }
    if asked.nodes is None:
        result["NodeNames"] = left
    else:
        kept = [node for node, name in zip(asked.nodes, asked.names, strict=True) if name not in failed]
        result["Nodes"] = {"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": kept}
    return msgspec.structs.replace(document(result), outcome=outcome, about=asked.fault or lack)


def prioritized(asked: Question, found: Verdicts | None, lack: str = "") -> Reply:
    """A score per node, 0 where nothing is known."""
    outcome = _outcome(asked, found, "scored")
    found = found or {}
    fits = {name: _points(found[name].score) for name in asked.names if name in found and not found[name].why}
    best = max(fits.values(), default=0.0)
    scores = [{"Host": name, "Score": _steps(best - fits[name]) if name in fits else 0} for name in asked.names]
    return msgspec.structs.replace(document(scores), outcome=outcome, about=asked.fault or lack)


def _outcome(asked: Question, found: Verdicts | None, done: str) -> str:
    return "unread" if asked.fault else "passed" if found is None else done


def _points(score: float) -> float:
    return min(max(score, 0.0), 100.0) if score == score else 0.0  # noqa: PLR0124  NaN


def _steps(behind: float) -> int:
    return int(max(0.0, BEST - behind / STEP) + 0.5)
