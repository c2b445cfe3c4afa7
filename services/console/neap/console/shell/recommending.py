"""`neap recommend`: what stands on the bus, a change asked for, a figure; or a file of one's own."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neap.common.bus.port import Bus, Received
from neap.common.contract.catalogue import APPLY, RECOMMENDATIONS
from neap.common.errors import InputError
from neap.common.model.recommendation import ApplyRequest, Recommendation
from neap.common.runtime.plugins import load
from neap.common.units import Seconds
from neap.console.core import pastfile, sizefigure, sizeview
from neap.console.shell.reading import open_bus, stored
from neap.foresight.rule import Aim, Rule

SIZES: Final = "neap.foresight.sizes"
PLAIN: Final = "percentile"
HEARD: Final[Seconds] = 30.0  # for the planner to say what became of a wish
ANSWERED: Final[Seconds] = 10.0


@dataclass(frozen=True)
class Ask:
    """What the command was asked for."""

    name: str = ""
    namespace: str = "default"
    apply: bool = False
    undo: bool = False
    figure: Path | None = None
    nats: str = ""


async def recommendations(ask: Ask) -> tuple[list[Recommendation], str]:
    """Those asked for, and what became of the wish.

    Raises:
        InputError: nothing is known of the service, or the wish does not hold.
        PortError: no bus, or no planner.
    """
    async with open_bus(ask.nats) as bus:
        if not ask.name:
            return await stored(bus, RECOMMENDATIONS.only()), ""
        namespace, kind, name = sizeview.target_of(ask.name, ask.namespace)
        tokens = {"namespace": namespace, "kind": kind, "name": name}
        found = await stored(bus, RECOMMENDATIONS.only(**tokens))
        if not found:
            raise InputError(
                f"nothing is recommended for {namespace}/{kind}/{name}: was it ever seen, and is sizing on?"
            )
        says = ""
        if ask.apply or ask.undo:
            answer = await bus.request(
                APPLY, ApplyRequest(namespace=namespace, kind=kind, name=name, undo=ask.undo), timeout=ANSWERED
            )
            if not answer.accepted:
                raise InputError(f"{namespace}/{kind}/{name}: {answer.says}")
            says = answer.says
            found = [await _changed(bus, tokens, found[0])]
        if ask.figure is not None:
            answer = await bus.request(
                APPLY, ApplyRequest(namespace=namespace, kind=kind, name=name, show=True), timeout=ANSWERED
            )
            parts = sizefigure.panels(found[0], answer.courses)
            title = f"{namespace}/{kind}/{name}: what it used, what it asks for, what it should"
            below = sizeview.text(found[0]).splitlines()
            ask.figure.write_text(sizefigure.draw(title, next((x for x in below if " over " in x), below[0]), parts))
        return found, says


async def _changed(bus: Bus, tokens: dict[str, str], before: Recommendation) -> Recommendation:
    """The recommendation once the planner has acted on the wish; as it was if that takes too long."""
    try:
        async with asyncio.timeout(HEARD), bus.watch(RECOMMENDATIONS.only(**tokens)) as items:
            async for item in items:
                if isinstance(item, Received) and item.message.at > before.at and item.message.state:
                    return item.message
    except TimeoutError:
        pass
    return before


def from_file(path: Path, figure: Path | None, *, rule: str, aim: Aim) -> str:
    """What would have been recommended on somebody's record.

    Raises:
        InputError: names the file, and the line or the series.
    """
    rules = load(SIZES, Rule, group=SIZES)
    if rule not in rules:
        raise InputError(f"no rule {rule!r} (there are: {', '.join(rules)})")
    said, parts = [], []
    for line in pastfile.read(str(path), path.read_text()):
        found, plain = (pastfile.replayed(line, rules[name], aim) for name in (rule, PLAIN))
        said.append(pastfile.told(line, found, plain))
        parts.append(pastfile.panel(line, found))
    if figure is not None:
        below = f"rule {rule}, p{100 * aim.percentile:g}, margin {aim.margin:.0%}; every hour by what was known then"
        figure.write_text(
            sizefigure.draw(f"{path.name}: what was used, and what would have been asked for", below, parts[:12])
        )
    return "\n\n".join(said)
