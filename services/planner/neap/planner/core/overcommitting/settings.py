"""Settings of over-commitment; all may differ for one pool or one node."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from neap.common.units import MINUTE, Ratio, Seconds

Share: TypeAlias = Annotated[Ratio, Meta(gt=0, le=1)]
Allowed: TypeAlias = Annotated[Ratio, Meta(ge=0, le=1000)]


class Overcommit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far a node may sell more than it has. Of all who name a ratio (here, the node's object) the lowest counts."""

    mode: Literal["off", "static", "dynamic"] = "dynamic"  # nothing said; what is set; that, and no more than foreseen
    cpu: Allowed = 0.0  # ratio that is set; 0: not named here
    memory: Allowed = 0.0  # the same
    predictor: str = "ranges"  # plugin that predicts a node's peak
    margin: Annotated[float, Meta(ge=0, le=100)] = 0.8  # of that plugin; what it means is told there
    cpu_target: Share = 0.75  # of a node's room that the peak may reach
    memory_target: Share = 0.85  # the same
    cpu_load: Share = 0.4  # what newcomers use of what they ask for, at least
    memory_load: Share = 0.8  # the same
    step: Annotated[Ratio, Meta(ge=0.01, le=1)] = 0.05  # in which a ratio moves
    rise: Annotated[Ratio, Meta(gt=0, le=100)] = 0.1  # an hour; it falls at once
    patience: Annotated[Seconds, Meta(ge=0, le=3600)] = 60.0  # a pressure that is over sooner changes nothing
    hold: Annotated[Seconds, Meta(ge=0, le=86400)] = 30 * MINUTE  # nothing more is sold so long after a pressure
    tick: Annotated[Seconds, Meta(gt=0, le=3600)] = 2.0  # between two looks at who is due
    renew: Annotated[Seconds, Meta(gt=0, le=3600)] = 300.0  # after which a node is looked at again
