"""Kubernetes Events about what neap decides: for `kubectl describe`, bounded, and never the record (that is the trail).

One Event per object and reason. What happens again within `window` is counted in the Event's series, which is written
every `every` at the most. What is said again in other words counts as the same until the window is over. New Events
take a token each: `rate` per second, up to `burst` at once; beyond it they are left out and counted.
Source: events.k8s.io/v1 (series instead of repetition); client-go tools/events (a series is one Event).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from neap.common.model.trail import ObjectRef
from neap.common.runtime.machine import Count, Instruction
from neap.common.units import MINUTE, Seconds
from neap.gateway.core.acts import Body, ShowEvent

CONTROLLER: Final = "neap.io/gateway"
API_VERSIONS: Final = dict.fromkeys(("Deployment", "StatefulSet", "DaemonSet"), "apps/v1")  # others are of the core
LONGEST: Final = 1024  # characters of a note
LONGEST_NAME: Final = 200


class EventSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """See module docstring."""

    on: bool = True  # show Events at all
    rate: Annotated[float, Meta(gt=0, le=1000)] = 15.0  # new ones per second
    burst: Annotated[int, Meta(ge=1, le=100_000)] = 80  # new ones at once
    window: Annotated[Seconds, Meta(gt=0)] = 6 * MINUTE  # the same reason again within it is a series
    every: Annotated[Seconds, Meta(gt=0)] = MINUTE  # between two writes of one series
    most: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096  # series remembered
    instance: Annotated[str, Meta(min_length=1, max_length=128)] = "neap-gateway"  # which gateway says so


class _Series:
    __slots__ = ("count", "last", "name", "namespace", "shown", "told")

    def __init__(self, namespace: str, name: str, at: Seconds) -> None:
        self.namespace, self.name, self.last, self.shown = namespace, name, at, at
        self.count = self.told = 1


class Events:
    """See module docstring."""

    def __init__(self, settings: EventSettings) -> None:
        self._settings = settings
        self._series: OrderedDict[tuple[str, str], _Series] = OrderedDict()
        self._again: dict[tuple[str, str], None] = {}  # counted further than written
        self._tokens, self._filled = float(settings.burst), 0.0

    def say(
        self, about: ObjectRef, reason: str, note: str, at: Seconds, *, action: str, warning: bool = False
    ) -> Sequence[Instruction]:
        """Something was decided about an object."""
        if not self._settings.on:
            return ()
        key = (about.uid, reason)
        series = self._series.get(key)
        if series is not None and at - series.last < self._settings.window:
            series.count, series.last = series.count + 1, at
            self._again[key] = None
            return self._repeat(key, series, at)
        if not self._token(at):
            return [Count("neap_gateway_events_dropped_total", labels={"reason": reason})]
        name = _name(about, reason, at)
        self._series[key] = _Series(about.namespace or "default", name, at)
        self._series.move_to_end(key)
        while len(self._series) > self._settings.most:
            self._again.pop(self._series.popitem(last=False)[0], None)
        body = self._body(about, reason, note, at, action, "Warning" if warning else "Normal")
        return [ShowEvent(about.namespace or "default", name, body)]

    def tick(self, at: Seconds) -> list[Instruction]:
        """Series that were counted further are written when their time has come; old ones are forgotten."""
        told: list[Instruction] = []
        for key in list(self._again):
            told += self._repeat(key, self._series[key], at)
        while self._series and at - next(iter(self._series.values())).last >= self._settings.window:
            self._again.pop(self._series.popitem(last=False)[0], None)
        return told

    def _repeat(self, key: tuple[str, str], series: _Series, at: Seconds) -> list[Instruction]:
        if at - series.shown < self._settings.every or not self._token(at):
            return []
        series.shown, series.told = at, series.count
        self._again.pop(key, None)
        body = {"series": {"count": series.count, "lastObservedTime": micro(series.last)}}
        return [ShowEvent(series.namespace, series.name, body, more=True)]

    def _token(self, at: Seconds) -> bool:
        gained = max(0.0, at - self._filled) * self._settings.rate
        self._tokens, self._filled = min(float(self._settings.burst), self._tokens + gained), max(at, self._filled)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _body(self, about: ObjectRef, reason: str, note: str, at: Seconds, action: str, kind: str) -> Body:
        regarding = {
            "apiVersion": API_VERSIONS.get(about.kind, "v1"),
            "kind": about.kind,
            "name": about.name,
            "uid": about.uid,
        }
        if about.namespace:
            regarding["namespace"] = about.namespace
        return {
            "metadata": {"name": _name(about, reason, at), "namespace": about.namespace or "default"},
            "eventTime": micro(at),
            "reportingController": CONTROLLER,
            "reportingInstance": self._settings.instance,
            "action": action,
            "reason": reason,
            "regarding": regarding,
            "note": note if len(note) <= LONGEST else note[: LONGEST - 1] + "…",
            "type": kind,
        }


def _name(about: ObjectRef, reason: str, at: Seconds) -> str:
    mark = hashlib.blake2b(f"{about.uid}/{reason}/{at}".encode(), digest_size=8).hexdigest()
    return f"{about.name[:LONGEST_NAME].rstrip('.-')}.{mark}"


def micro(at: Seconds) -> str:
    """Seconds since the epoch as Kubernetes' MicroTime."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
