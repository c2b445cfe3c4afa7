"""The scheduler's table: what it hears, when it acts, what it answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from neap.common.contract.catalogue import DEVICES, EXPLAIN, HEADROOM, NODE_USAGE, NODES, PLACEMENTS, TOPOLOGY, WORKLOAD
from neap.common.errors import SettingsError
from neap.common.runtime.plugins import load
from neap.common.runtime.service import Outside, Service, every, follow, on, serve, watch
from neap.scheduler.core.framework import Plugin, Policy
from neap.scheduler.core.machine import SchedulerMachine
from neap.scheduler.settings import Settings

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
            watch(HEADROOM.only()),
            watch(DEVICES.only()),
            on(NODE_USAGE.only(), limit=20_000),
            every(settings.cycle, "cycle"),
            serve(EXPLAIN, machine.explain),
        ),
    )


def policies(settings: Settings) -> tuple[Policy, ...]:
    """The plugins in use, in their order, with their weights and settings.

    Raises:
        SettingsError: a plugin is unknown, or one of its settings does not hold.
    """
    found: Mapping[str, Plugin[Any]] = load(PACKAGE, Plugin, group=PACKAGE)
    named = {*settings.order, *settings.weights, *(key.partition(".")[0] for key in settings.tune)}
    unknown = sorted(named - set(found))
    if unknown:
        raise SettingsError(f"scheduler: no plugin {', '.join(unknown)} (there are: {', '.join(found)})")
    return tuple(
        Policy(name, found[name], settings.weights.get(name, 1.0), _tuned(name, found[name], settings.tune))
        for name in settings.order
    )


def _tuned(name: str, plugin: Plugin[Any], tune: Mapping[str, float | str]) -> Any:
    own = {key.partition(".")[2]: value for key, value in tune.items() if key.partition(".")[0] == name}
    try:
        return msgspec.convert(own, plugin.settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"scheduler.tune of {name}: {error} (there are: {_keys(plugin)})") from None


def _keys(plugin: Plugin[Any]) -> str:
    return ", ".join(plugin.settings.__struct_fields__) or "none"
