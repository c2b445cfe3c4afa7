"""Options that many commands have."""

from __future__ import annotations

from typing import Annotated

import typer

from neap.common.errors import InputError

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
