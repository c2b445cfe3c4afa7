"""`neap scaling`: read plans of replicas and the forecasts they rest on."""

from __future__ import annotations

import json

from neap.common.contract.catalogue import FORECASTS, SCALING
from neap.common.errors import InputError
from neap.common.model.forecast import Forecast
from neap.common.model.scaling import ScalingPlan
from neap.console.core.scaled import as_json, chart, table
from neap.console.shell.reading import open_bus, stored


async def show_scaling(service: str, url: str, *, in_json: bool) -> str:
    """One service with its chart, or a line for each.

    Raises:
        InputError: no such service, or several of that name; names them.
        PortError: no bus.
    """
    async with open_bus(url) as bus:
        plans = await stored(bus, SCALING.only())
        mine = [plan for plan in plans if is_meant(plan, service)]
        if service and len(mine) != 1:
            known = ", ".join(key_of(plan) for plan in mine) or f"{len(plans)} services are known"
            raise InputError(f"{service!r}: {'which one' if mine else 'no plan of it'} ({known})")
        forecasts: list[Forecast] = []
        if service:
            plan = mine[0]
            only = FORECASTS.only(namespace=plan.namespace, kind=plan.kind, name=plan.name, resource="cpu")
            forecasts = await stored(bus, only)
    forecast = forecasts[0] if forecasts else None
    if in_json:
        return json.dumps(as_json(mine, forecast), indent=2)
    return chart(mine[0], forecast) if service else table(sorted(mine, key=key_of))


def key_of(plan: ScalingPlan) -> str:
    """As people write it."""
    return f"{plan.namespace}/{plan.kind}/{plan.name}"


def is_meant(plan: ScalingPlan, written: str) -> bool:
    """Whether "shop/Deployment/feed", "shop/feed" or "feed" names it; the empty text names all."""
    return written in {"", plan.name, f"{plan.namespace}/{plan.name}", key_of(plan)}
