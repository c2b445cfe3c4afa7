"""Settings of gpushare."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from neap.common.units import Seconds


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One node's gpushare."""

    node: str = ""  # the node whose cards are shared; empty: this host's name
    mps: bool = False  # an MPS control daemon serves this node, so the limits of a slice bound it
    retell: Annotated[Seconds, Meta(gt=0)] = 5.0  # after which a device state that could not be told is told again
