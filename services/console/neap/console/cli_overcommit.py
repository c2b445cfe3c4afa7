"""`neap overcommit`: how much more than they have nodes sell, and how much they may."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from neap.console.options import Nats, Output, wants_json

SHOW: Final = "show"


class _ShowsFirst(TyperGroup):
    """`neap overcommit [NODE]` is `neap overcommit show [NODE]`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """A first word that is no command is a node."""
        asks_help = {"--help", *ctx.help_option_names}
        if not args or (args[0] not in self.commands and args[0] not in asks_help):
            args = [SHOW, *args]
        return super().parse_args(ctx, args)


overcommit_app = typer.Typer(cls=_ShowsFirst, help="How much more than they have nodes sell, and how much they may.")


@overcommit_app.command(SHOW)
def show(
    node: Annotated[str, typer.Argument(metavar="[NODE]", help="Default: all that sell more than they have.")] = "",
    nats: Nats = "",
    output: Output = "text",
) -> None:
    """What is set, what is foreseen, what is in force; predicted peak, requests, and the arithmetic."""
    from neap.console.shell.overcommitting import show_overcommit  # noqa: PLC0415 (a quick `neap --help`)

    typer.echo(asyncio.run(show_overcommit(node, nats, in_json=wants_json(output))))


@overcommit_app.command("set")
def set_(
    ratios: Annotated[list[str], typer.Argument(metavar="KIND=RATIO...", help="Such as cpu=1.4.")],
    pool: Annotated[str, typer.Option(help="Nodes of this pool; default: all.")] = "",
    node: Annotated[str, typer.Option(help="This node alone.")] = "",
    reason: Annotated[str, typer.Option(help="Why; shown wherever it takes effect.")] = "",
    nats: Nats = "",
) -> None:
    """How much nodes may sell at most. Refused where more is asked for by what runs than would be sold."""
    from neap.console.shell.overcommitting import set_overcommit  # noqa: PLC0415

    for line in asyncio.run(set_overcommit(ratios, pool=pool, node=node, reason=reason, url=nats)):
        typer.echo(line)
