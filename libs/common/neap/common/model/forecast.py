"""What is expected of a series, and how good such expectations were.

A series is named by (namespace, kind, name, resource): all pods of a service together ("shop", "Deployment", "cart",
"cpu"), or with namespace CLUSTER_SCOPE a node ("Node", "n7"), a pool ("NodePool", "web") or the cluster (CLUSTER).
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

CLUSTER_SCOPE: Final = "-"  # in the place of a namespace, and never one: what it names belongs to none
CLUSTER: Final = ("Cluster", "cluster")  # kind and name of all nodes together
MOST_POINTS: Final = 2016  # a week of 5 minutes


class ReportCard(msgspec.Struct, frozen=True, kw_only=True):
    """How a way of forecasting did where it could not know the answer: on held-out origins, of the past only."""

    model: str
    origins: int  # forecasts that were judged
    horizon: float  # seconds ahead
    mape: float  # mean of |forecast - value| / value, a share; NaN-free: values of 0 are left out
    seasonal_mape: float | None = None  # of the same origins, by the same time yesterday; None: no whole day known
    naive_mape: float | None = None  # by the last value
    p90_cover: float | None = None  # share of values at or below the 90 % band
    p99_cover: float | None = None
    under_minutes: float = 0.0  # per day, in which the value was above the 99 % band
    on: bool = True  # whether it may drive decisions
    why: str = ""  # why not, or why this model


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """Expected values of one series on a fixed step; units are those of the resource: cores, bytes."""

    at: float
    source: str
    namespace: str
    kind: str
    name: str
    resource: str
    version: str  # named in every decision made with it
    start: float  # of the first value, seconds since the epoch
    step: Annotated[float, Meta(gt=0)]
    values: Annotated[tuple[float, ...], Meta(max_length=MOST_POINTS)]
    p90: Annotated[tuple[float, ...], Meta(max_length=MOST_POINTS)] = ()
    p99: Annotated[tuple[float, ...], Meta(max_length=MOST_POINTS)] = ()
    cards: Annotated[tuple[ReportCard, ...], Meta(max_length=16)] = ()  # the chosen model's first, then the others'
