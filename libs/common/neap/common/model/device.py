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


class NetworkState(msgspec.Struct, frozen=True, kw_only=True):
    """One network card that pods were given parts of, in percent of its bandwidth; accounted, enforced by nobody."""

    address: str
    name: str  # what the system calls it; empty where it has no name
    free: int
    given: dict[str, int]  # percent by uid


class DeviceState(msgspec.Struct, frozen=True, kw_only=True):
    """All cards of one node, and network cards in use; `refused` names allocations that broke a rule, with the reason."""

    at: float
    source: str
    node: str
    ledger_seq: int
    cards: tuple[CardState, ...]
    networks: tuple[NetworkState, ...] = ()  # those of which something was given, by address
    refused: dict[str, str] = {}
