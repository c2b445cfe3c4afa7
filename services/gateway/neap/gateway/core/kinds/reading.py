"""What an object of ours says, before it is said on the bus."""

from __future__ import annotations

from dataclasses import dataclass

from neap.common.model.policy import Edition
from neap.common.model.profile import ServiceProfile


@dataclass(frozen=True)
class Said:
    """An edition for the document `name` of one room; its version is given when it is put into the document."""

    room: str
    name: str
    edition: Edition


@dataclass(frozen=True)
class Reading:
    """All an object says. With a flaw it says nothing, and what it said before goes on."""

    profiles: tuple[ServiceProfile, ...] = ()
    said: tuple[Said, ...] = ()
    remarks: tuple[str, ...] = ()  # what is not honoured, for its condition
    flaw: str = ""  # why it is not accepted
    hold: bool = False  # it is paused: what it said before stays
