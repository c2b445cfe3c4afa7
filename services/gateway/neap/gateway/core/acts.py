"""What the gateway asks of the Kubernetes API, and what it hears back: expected outcomes are values.

Every act names the object's uid, so that it never hits a namesake, and says of itself all that carrying it out needs:
doing one twice is as good as once. All of them run beside the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from neap.common.kube.katalyst import CustomNodeResource
from neap.common.kube.kind import Kind
from neap.common.kube.objects import NodeTaint
from neap.common.model.lifecycle import Eviction
from neap.common.runtime.machine import Aside, Instruction
from neap.common.units import Seconds
from neap.gateway.core.plans.sizes import Sizes

Body: TypeAlias = dict[str, Any]

# -- asked ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bind(Aside):
    """Give a pod its node. `token`: the leadership it was decided under; `why`: what the ledger says of the choice."""

    namespace: str
    name: str
    uid: str
    node: str
    attempt: int
    token: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class Evict(Aside):
    """Ask for a pod's eviction, as far as budgets allow."""

    namespace: str
    name: str
    uid: str
    grace: Seconds | None  # None: the pod's own
    eviction: Eviction


@dataclass(frozen=True, slots=True)
class ResizePod(Aside):
    """Change what containers of a running pod request and may use, in place. `resources` by container.

    `plan`: the command it belongs to; empty: the pod's own annotation asks for it.
    """

    namespace: str
    name: str
    uid: str
    resources: dict[str, Body]
    plan: str = ""


@dataclass(frozen=True, slots=True)
class SizeOwner(Aside):
    """Change the size of pods that an owner makes: by its template, so that its pods are made anew, or by a note.

    The note is for admission (plans/sizes.py). Nothing else of the owner changes. Answers Written, `why` empty if it
    was so before.
    """

    kind: Kind[Any]
    namespace: str
    name: str
    to: Sizes
    version: str
    plan: str
    template: bool


@dataclass(frozen=True, slots=True)
class ScaleOwner(Aside):
    """Replicas, by the scale subresource."""

    kind: Kind[Any]
    namespace: str
    name: str
    uid: str
    replicas: int


@dataclass(frozen=True, slots=True)
class ApplyNode(Aside):
    """Extended resources of a node, as its capacity and as allocatable."""

    node: str
    amounts: dict[str, str]


@dataclass(frozen=True, slots=True)
class MirrorNode(Aside):
    """A node's CustomNodeResource: its status; all of it where there is none yet."""

    node: str
    mirror: CustomNodeResource


@dataclass(frozen=True, slots=True)
class TaintNode(Aside):
    """Put these taints on a node, and take those keys off it; and labels: None takes one off."""

    node: str
    put: tuple[NodeTaint, ...] = ()
    take: tuple[str, ...] = ()
    labels: tuple[tuple[str, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class ShowEvent(Aside):
    """An Event for `kubectl describe`; `more`: it was shown, and happened again."""

    namespace: str
    name: str
    body: Body
    more: bool = False


@dataclass(frozen=True, slots=True)
class AnswerObject(Aside):
    """The status of one of neap's own objects: what became of what it says."""

    kind: Kind[Any]
    namespace: str
    name: str
    status: Body


@dataclass(frozen=True, slots=True)
class ReadObject(Aside):
    """Look at an object again, because something else changed what it means. Answers the object."""

    kind: Kind[Any]
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class AskWhy(Aside):
    """Ask the scheduler why a pod waits. Answers an Explanation."""

    namespace: str
    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class Say(Instruction):
    """A line of the log: what no pod's trail is the place for."""

    event: str
    why: str


# -- answered ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bound:
    """The pod has its node; perhaps it had it before."""


@dataclass(frozen=True, slots=True)
class LostRace:
    """Somebody else bound it first, to `node`."""

    why: str
    node: str = ""


@dataclass(frozen=True, slots=True)
class Refused:
    """The API does not take this, and will not later."""

    why: str


@dataclass(frozen=True, slots=True)
class AlreadyGone:
    """There is no such object any more; a namesake does not count."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """The pod is on its way out."""


@dataclass(frozen=True, slots=True)
class NotNow:
    """A budget has no room; not before `after` seconds."""

    after: Seconds
    why: str


@dataclass(frozen=True, slots=True)
class Impossible:
    """It can never be evicted as things are, such as under two budgets."""

    why: str


@dataclass(frozen=True, slots=True)
class Written:
    """It is as it was asked. `why`: what was changed, where that is worth telling."""

    why: str = ""
