"""What a GPU node has given to whom, as gpushare keeps it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from neap.common.model.placement import GpuShare
from neap.common.model.topology import Card


class Enforcement(StrEnum):
    """The rung of the ladder a share reached; accounting is exact on every rung."""

    WHOLE = "whole"
    MPS = "mps"
    ACCOUNTED_ONLY = "accounted-only"


class Allocation(msgspec.Struct, frozen=True, kw_only=True):
    """One container's share, with the environment that limits it."""

    uid: str
    share: GpuShare
    enforced: Enforcement
    environment: dict[str, str] = {}


class CardState(msgspec.Struct, frozen=True, kw_only=True):
    """One card: what is left of 100 percent and of its memory."""

    card: Card
    core_free: int
    memory_free_mib: int
    allocations: tuple[Allocation, ...]


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """All cards of one node; `refused` names allocations that broke a rule, with the reason."""

    at: float
    source: str
    node: str
    ledger_seq: int
    cards: tuple[CardState, ...]
    refused: dict[str, str] = {}
