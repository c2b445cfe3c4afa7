"""What a policy is given, and what it answers. A plugin module's PLUGIN is one of the two kinds below.

A policy is a pure function of a frozen view, its own settings and, for provision, a small memory per pool that
it gets back in the next round. Bad input is answered with the conservative value, never with an exception.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from neap.common.errors import SettingsError
from neap.common.units import Cores, Ratio


class PodView(msgspec.Struct, frozen=True, kw_only=True):
    """One owner's pod. None means unknown, never zero; CPU in cores."""

    uid: str
    request: Cores
    limit: Cores | None = None  # what its quota lets it use at most
    now: Cores | None = None  # in the newest report
    smooth: Cores | None = None  # exponentially smoothed
    peak: Cores | None = None  # highest over the window
    stall: Ratio | None = None  # PSI some, last 10 s, worst container
    settled: bool = False  # seen often enough that its usage may be believed


class PoolView(msgspec.Struct, frozen=True, kw_only=True):
    """One shared pool."""

    name: str
    pods: tuple[PodView, ...]  # sorted by uid
    fresh: bool = True  # False: no new report since the last round, so nothing may be learnt from it


class Requirement(msgspec.Struct, frozen=True, kw_only=True):
    """What a pool's owners need: cores = estimate × ratio + reserve."""

    cores: Cores
    estimate: Cores
    ratio: Ratio
    reserve: Cores
    reason: str


class Claim(msgspec.Struct, frozen=True):
    """A part of the machine that is not to lend: amount × ratio, in the unit of the view."""

    amount: float
    name: str
    ratio: Ratio = 1.0

    @property
    def total(self) -> float:
        """What is taken off."""
        return self.amount * self.ratio


class HeadroomView(msgspec.Struct, frozen=True, kw_only=True):
    """One resource of the machine, in cores or bytes; `kind` is the resource that is offered."""

    kind: str
    capacity: float
    reserved: float  # set aside for the system
    system: float | None = None  # used by what no ledger entry explains; None: unknown
    claims: tuple[Claim, ...] = ()


class Offer(msgspec.Struct, frozen=True):
    """What may be lent in total, ≥ 0, in the unit of the view, and the sum it came from."""

    amount: float
    arithmetic: str


@dataclass(frozen=True)
class Policy:
    """What the plugin folder holds; `settings` is a frozen Struct whose fields all have defaults."""

    settings: type[msgspec.Struct]


@dataclass(frozen=True)
class ProvisionPolicy(Policy):
    """How many cores the owners of a shared pool need."""

    advise: Callable[[PoolView, Any, Any], tuple[Requirement, Any]]  # (view, settings, memory) -> (…, memory)
    start: Any = None  # the first memory of a pool


@dataclass(frozen=True)
class HeadroomPolicy(Policy):
    """How much of a resource is left to lend."""

    advise: Callable[[HeadroomView, Any], Offer]


@dataclass(frozen=True)
class Chosen:
    """The two policies in force, with their settings."""

    provision: ProvisionPolicy
    provision_settings: msgspec.Struct
    headroom: HeadroomPolicy
    headroom_settings: msgspec.Struct


def choose(policies: Mapping[str, Policy], provision: str, headroom: str, tune: Mapping[str, float]) -> Chosen:
    """The policies by name, with `tune` ("plugin.field" -> value) applied.

    Raises:
        SettingsError: no such plugin, one of the wrong kind, an unknown field or a value out of bounds.
    """
    sizing, lending = policies.get(provision), policies.get(headroom)
    if not isinstance(sizing, ProvisionPolicy):
        raise SettingsError(f"provision = {provision!r} is no provision policy (known: {', '.join(policies)})")
    if not isinstance(lending, HeadroomPolicy):
        raise SettingsError(f"headroom = {headroom!r} is no headroom policy (known: {', '.join(policies)})")
    tuned: dict[str, dict[str, float]] = {}
    for key, value in tune.items():
        plugin, _, name = key.partition(".")
        if plugin not in policies or name not in policies[plugin].settings.__struct_fields__:
            raise SettingsError(f"tune: {key!r} is no setting of a plugin (known plugins: {', '.join(policies)})")
        tuned.setdefault(plugin, {})[name] = value
    try:
        return Chosen(
            sizing,
            msgspec.convert(tuned.get(provision, {}), sizing.settings, strict=False),
            lending,
            msgspec.convert(tuned.get(headroom, {}), lending.settings, strict=False),
        )
    except msgspec.ValidationError as error:
        raise SettingsError(f"tune: {error}") from None
