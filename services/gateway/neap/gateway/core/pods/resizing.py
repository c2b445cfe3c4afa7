"""Another size for a running pod, in place: asked for by annotation, carried out by the pod's resize subresource.

    neap.io/resize: '{"main": {"requests": {"cpu": "750m"}, "limits": {"cpu": "1500m"}}}'      containers by name

The pod keeps its uid and its node; what the kubelet makes of it stands in the pod's own status. Containers that are
not named stay as they are, and so do kinds that are not named. Nothing is asked where nothing would change, so a
restart asks for nothing twice. The same words are asked once; what the API refuses is said in an Event.
Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers" (cpu and memory only).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from neap.common.errors import InputError
from neap.common.kube.objects import Pod
from neap.common.model.resource import CPU, MEMORY, parse_amount
from neap.common.runtime.machine import Instruction
from neap.common.units import Seconds
from neap.gateway.core import lines
from neap.gateway.core.acts import AlreadyGone, Body, Refused, ResizePod
from neap.gateway.core.events import Events
from neap.gateway.core.pods.facts import RESIZE, PodFacts
from neap.gateway.core.pods.settle import hash_of

KINDS: Final = (CPU, MEMORY)
LONGEST: Final = 4096  # characters


class _Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}


class Resizing:
    """Which words were asked of which pod."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._asked: dict[str, str] = {}  # uid -> words

    def see(self, facts: PodFacts, pod: Pod, at: Seconds, doubt: str) -> list[Instruction]:
        """A pod as it is now. `doubt`: why nobody is resized on what is known now."""
        try:
            changes = resize_of(pod) if facts.phase == "Running" and not facts.deleting else {}
        except InputError as error:
            return self._refused(facts.namespace, facts.name, facts.uid, str(error), at)
        words = hash_of(repr(changes))
        if not changes or self._asked.get(facts.uid) == words or doubt:
            return []
        self._asked[facts.uid] = words
        return [ResizePod(facts.namespace, facts.name, facts.uid, changes)]

    def forget(self, uid: str) -> None:
        """It is gone; or it could not be asked, and may be asked again."""
        self._asked.pop(uid, None)

    def answered(self, act: ResizePod, outcome: Any, at: Seconds) -> list[Instruction]:
        """The API server said what becomes of it."""
        namespace, name, uid = act.namespace, act.name, act.uid
        if isinstance(outcome, AlreadyGone):
            return []
        if isinstance(outcome, Refused):
            return self._refused(namespace, name, uid, outcome.why, at)
        pod, why = lines.about(namespace, name, uid), f"in place, as its annotation asks: {act.resources}"
        said = self._events.say(pod, "Resized", why, at, action="Resizing")
        return [lines.line(pod, at, "resized", why, id=f"resized.{hash_of(why)}"), *said]

    def _refused(self, namespace: str, name: str, uid: str, why: str, at: Seconds) -> list[Instruction]:
        words = hash_of(why)
        if self._asked.get(uid) == words:
            return []
        self._asked[uid] = words
        pod = lines.about(namespace, name, uid)
        said = self._events.say(pod, "ResizeRefused", why, at, action="Resizing", warning=True)
        return [lines.line(pod, at, "not resized", why, id=f"not-resized.{words}"), *said]


def resize_of(pod: Pod) -> dict[str, Body]:
    """What is to change, by container; {}: nothing.

    Raises:
        InputError: the annotation cannot be read, or names what is not there or cannot be resized.
    """
    text = (pod.metadata.annotations or {}).get(RESIZE)
    if text is None:
        return {}
    try:
        asked = msgspec.json.decode(text if len(text) <= LONGEST else "", type=dict[str, _Asked])
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InputError(f"{RESIZE}={text!r:.64}: {error!s:.200}") from None
    now = {container.name: container.resources for container in pod.spec.containers}
    found: dict[str, Body] = {}
    for name, wish in sorted(asked.items()):
        if name not in now:
            raise InputError(f"{RESIZE}: there is no container {name!r:.64}")
        changes: dict[str, Any] = {}
        for field, amounts, has in (
            ("requests", wish.requests, now[name].requests),
            ("limits", wish.limits, now[name].limits),
        ):
            if others := sorted(set(amounts) - set(KINDS)):
                raise InputError(f"{RESIZE}: {others[0]!r:.64} of {name} cannot be resized, only {', '.join(KINDS)}")
            if different := {kind: amount for kind, amount in amounts.items() if _differs(kind, amount, has)}:
                changes[field] = different
        if changes:
            found[name] = {"resources": changes}
    return found


def _differs(kind: str, amount: str, has: Mapping[str, Any] | None) -> bool:
    wanted = parse_amount(kind, amount, where=RESIZE)
    text = (has or {}).get(kind)
    return text is None or parse_amount(kind, str(text), where=RESIZE) != wanted
