"""Options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from neap.common.errors import InputError
from neap.common.units import DAY, HOUR, MINUTE, parse_duration

Nats = Annotated[str, typer.Option("--nats", help="Address of the bus; default: a `neap up` that runs here.")]
Output = Annotated[str, typer.Option("-o", "--output", help="text or json")]


def wants_json(output: str) -> bool:
    """Whether programs read it.

    Raises:
        InputError: neither text nor json.
    """
    if output not in {"text", "json"}:
        raise InputError(f"-o {output}: text or json")
    return output == "json"


def hours(told: str | float) -> float:
    """Hours of a day, from "2" or 2.0 (hours), "2h" or "90m"; three minutes to a day.

    Raises:
        BadParameter: it is none of these, or too short or long.
    """
    text = str(told)
    try:
        found = float(text) if text.replace(".", "", 1).isdecimal() else parse_duration(text) / HOUR
    except InputError as error:
        raise typer.BadParameter(str(error)) from None
    if not 3 * MINUTE <= found * HOUR <= DAY:
        raise typer.BadParameter(f"{text}: must be within 3m and 24h")
    return found


Length = Annotated[
    float,
    typer.Option(parser=hours, metavar="DURATION", help="How much of the day to live through: 2h, 90m, or hours."),
]
