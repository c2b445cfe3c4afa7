"""How many replicas a service should have, by what it uses and by what is coming."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class ScaleMode(StrEnum):
    """Whether anything is done."""

    OFF = "off"
    PREVIEW = "preview"  # computed and shown
    AUTO = "auto"  # the gateway acts on it


class ScalingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Replicas of one service, now, with the arithmetic."""

    at: float
    source: str
    namespace: str
    kind: str
    name: str
    mode: ScaleMode
    now: int
    desired: int  # within bounds and rate limits
    native: int | None = None  # by what is used now, as the Horizontal Pod Autoscaler counts
    predicted: int | None = None  # by what is expected at now + lead
    least: int = 1
    most: int = 1
    lead: float = 0.0  # seconds; from measured starts
    expected: float | None = None  # use at now + lead, cores
    target: float | None = None  # use per replica that is aimed at, cores
    forecast: str = ""  # version it rests on; empty: none, or switched off
    flags: tuple[str, ...] = ()  # "clamped by most", "prediction off: loses to seasonal naive"
    arithmetic: str = ""
    manner: str = ""  # of scaling, the one that proved best for this service
    peak: int | None = None  # replicas the highest point of the forecast needs
    peak_at: float | None = None
    acts_at: float | None = None  # when more would be started for what comes; None: what there is suffices
    short: float = 0.0  # seconds, on paper, since it is scaled: the load was above what ready replicas can do
    paid: float = 0.0  # replicas x seconds, on paper
    autoscaler_short: float = 0.0  # the same under the autoscaler's own rule
    autoscaler_paid: float = 0.0
