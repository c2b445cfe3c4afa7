"""The scheduler's table: what it hears, when it acts, what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from neap.common.contract.catalogue import (
    APART,
    DEVICES,
    DRY_RUN,
    EVICTING,
    EXPLAIN,
    HEADROOM,
    MACHINE_TYPES,
    NODE_USAGE,
    NODES,
    PLACEMENTS,
    RATIOS,
    TIDES,
    TOPOLOGY,
    WEIGH,
    WORKLOAD,
)
from neap.common.contract.catalogue import PROFILES as SERVICE_PROFILES
from neap.common.errors import SettingsError
from neap.common.runtime.plugins import load
from neap.common.runtime.service import Outside, Service, every, follow, on, serve, watch
from neap.scheduler.core.choice.framework import Plugin, Policy
from neap.scheduler.core.flow.machine import SchedulerMachine
from neap.scheduler.settings import PROFILES, SCORERS, WEIGHTS, Settings

SETTINGS: Final = Settings
PACKAGE: Final = "neap.scheduler.plugins"


def wire(settings: Settings, outside: Outside) -> Service:
    """One scheduler."""
    machine = SchedulerMachine(settings, policies(settings), seed=outside.seed)
    return Service(
        "scheduler",
        "",
        machine=machine,
        routes=(
            follow(WORKLOAD.only()),
            follow(PLACEMENTS.only()),
            watch(TOPOLOGY.only()),
            watch(NODES.only()),
            watch(SERVICE_PROFILES.only()),
            watch(MACHINE_TYPES.only()),
            watch(HEADROOM.only()),
            watch(EVICTING.only()),
            watch(APART.only()),
            watch(DEVICES.only()),
            watch(RATIOS.only()),
            watch(TIDES.only()),
            on(NODE_USAGE.only(), limit=20_000),
            every(settings.cycle, "cycle"),
            serve(EXPLAIN, machine.explain),
            serve(DRY_RUN, machine.dry_run),
            serve(WEIGH, machine.weigh),
        ),
    )


def policies(settings: Settings) -> tuple[Policy, ...]:
    """The plugins in use, in their order, with their weights and settings; the profile's scorers last.

    Raises:
        SettingsError: a plugin is unknown, a weight out of bounds, or a setting of a plugin does not hold.
    """
    found: Mapping[str, Plugin[Any]] = load(PACKAGE, Plugin, group=PACKAGE)
    scoring = PROFILES[settings.profile]
    order = settings.order
    if not set(SCORERS) & set(order):
        order = (*order, *scoring.weights)
    weights, tune = {**WEIGHTS, **scoring.weights, **settings.weights}, {**scoring.tune, **settings.tune}
    named = {*order, *weights, *(key.partition(".")[0] for key in tune)}
    unknown = sorted(named - set(found))
    if unknown:
        raise SettingsError(f"scheduler: no plugin {', '.join(unknown)} (there are: {', '.join(found)})")
    if len(set(order)) < len(order):
        raise SettingsError(f"scheduler.order: a plugin is named twice: {', '.join(order)}")
    for name, weight in weights.items():
        if not 0 <= weight <= 100:  # NaN neither
            raise SettingsError(f"scheduler.weights: {name} = {weight} (allowed: 0..100)")
    scorers = [name for name in order if found[name].score is not None]
    if scorers and not any(weights.get(name, 1.0) for name in scorers):
        raise SettingsError(f"scheduler.weights: all of {', '.join(scorers)} have weight 0")
    return tuple(Policy(name, found[name], weights.get(name, 1.0), _tuned(name, found[name], tune)) for name in order)


def _tuned(name: str, plugin: Plugin[Any], tune: Mapping[str, float | str]) -> Any:
    """A plugin's settings; "plugin.setting.key" is one entry of a setting that is a table."""
    own: dict[str, Any] = {}
    for key, value in tune.items():
        owner, _, setting = key.partition(".")
        head, _, below = setting.partition(".")
        if owner == name and below and isinstance(own.setdefault(head, {}), dict):
            own[head][below] = value
        elif owner == name:
            own[setting] = value
    try:
        return msgspec.convert(own, plugin.settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"scheduler.tune of {name}: {error} (there are: {_keys(plugin)})") from None


def _keys(plugin: Plugin[Any]) -> str:
    return ", ".join(plugin.settings.__struct_fields__) or "none"
