"""What the gateway's web server answers, and what it tells the machine: made by pure functions, sent by the shell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

JSON: Final = "application/json"


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One answer; `outcome` is what is counted of it, in a word."""

    status: int = 200
    body: bytes = b""
    media: str = JSON
    outcome: str = "answered"
    about: str = ""  # for a line in the log: who was refused, and why


def document(content: Any, media: str = JSON) -> Reply:
    """An answer that is a document."""
    return Reply(body=msgspec.json.encode(content), media=media)


def refusal(code: int, reason: str, message: str) -> Reply:
    """Kubernetes' own way to say no."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
    return Reply(status=code, body=msgspec.json.encode(status), outcome="refused", about=message)


@dataclass(frozen=True)
class Answered:
    """Told to the machine: a question was answered. `outcome` is a word, `about` a sentence."""

    door: str
    outcome: str
    pod: str = ""
    about: str = ""


@dataclass(frozen=True)
class Opened:
    """Told to the machine first: it listens."""

    port: int
