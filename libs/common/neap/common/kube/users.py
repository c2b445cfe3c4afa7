"""Who of neap may say and hear what on NATS in a cluster: the server's users, one per deployed room.

A room of a node is one user on all nodes, since a server's configuration cannot know the nodes: such a user may speak
for any node. Where that is too much, users per node are generated with `--authorization` (contract/generate.py).
The public halves of their nkeys come from the server's environment, so this text holds no secret and fits every cluster.
"""

from __future__ import annotations

from typing import Final

from neap.common.contract.permissions import User, authorization, connection_name, rights

NODE_ROOMS: Final = ("advisor", "enforcer", "evictor", "gpushare", "reporter")
CENTRAL_ROOMS: Final = ("gateway", "planner", "scheduler")
ROOMS: Final = (*CENTRAL_ROOMS, "console", *NODE_ROOMS)


def key_variable(room: str) -> str:
    """The variable with the public half of a room's nkey."""
    return f"NEAP_NKEY_{room.upper()}"


def users() -> tuple[User, ...]:
    """One per room that is deployed, and the console for people."""
    return tuple(User(connection_name(room), rights([room]), nkey=f"${key_variable(room)}") for room in sorted(ROOMS))


def server_users() -> str:
    """The `authorization` block."""
    return authorization(users())
