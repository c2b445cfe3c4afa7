"""A journal read back: the lives of services as events that a fresh machine can be handed, and what was decided then.

Instructions stay as they are written (`journal.plain`): nobody executes them again. An answer (Done, Failed) names
the instruction it answers; whoever replays finds its own equal one by `key`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, get_args

import msgspec

from neap.common.bus.port import LostRace, Stored
from neap.common.contract.catalogue import CHANNELS
from neap.common.contract.channel import MALFORMED, Channel, shortened
from neap.common.errors import InputError
from neap.common.runtime.journal import plain
from neap.common.runtime.machine import (
    Arrived,
    Done,
    Event,
    Failed,
    Gone,
    Instruction,
    Machine,
    Missed,
    Stopping,
    Synced,
    Tick,
)

MESSAGES: Final[Mapping[str, Any]] = {
    kind.__name__: kind
    for channel in CHANNELS
    for kind in (get_args(channel.message) or (channel.message,))
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
}
CHANNEL_BY_TITLE: Final[Mapping[str, Channel[Any]]] = {channel.title(): channel for channel in CHANNELS}


@dataclass(frozen=True, slots=True)
class Asked(Instruction):
    """An instruction as the journal has it; `id` of an append."""

    text: str
    id: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One event, and the instructions that were answered to it."""

    event: Event
    do: tuple[Mapping[str, Any], ...]
    line: int


@dataclass(slots=True)
class Life:
    """What begins a life of one service: how it was set. `steps` reads on, once."""

    service: str
    settings: Mapping[str, Any] | None  # None: the journal does not say
    seed: int
    steps: Iterator[Step] = field(default_factory=lambda: iter(()))


def read_life(lines: Iterable[bytes], *, service: str, where: str) -> Life:
    """The first life of a service in a journal; it ends where its next one begins, or in the middle of a line.

    Raises:
        InputError: names place and line: not a journal, or a service that is not in it. Steps raise it as they come.
    """
    mine = _lines(lines, service, where)
    first = next(mine, None)
    if first is None:
        raise InputError(f"{where}: nothing of a service named {service!r} is in it")
    number, record = first
    if "settings" in record:
        return Life(service, record["settings"], int(record.get("seed", 0)), _steps(mine, where))
    return Life(service, None, 0, _steps(_chained(number, record, mine), where))


def key(instruction: Instruction | Mapping[str, Any]) -> str:
    """One text for an instruction, whether a machine gave it now or a journal tells of it."""
    told = plain(instruction) if isinstance(instruction, Instruction) else instruction
    return msgspec.json.encode(told, order="sorted").decode()


def repeat(machine: Machine, steps: Iterable[Step]) -> tuple[int, str]:
    """Hand a recorded life to a fresh machine: events handled, and where it first decides otherwise (or "")."""
    asked: dict[str, Instruction] = {}
    handled = 0
    for step in steps:
        answered = machine.handle(answering(step.event, asked))
        asked |= {key(instruction): instruction for instruction in answered if type(instruction).__name__ == "Append"}
        now, then = [key(instruction) for instruction in answered], [key(told) for told in step.do]
        handled += 1
        if now != then:
            other = next((pair for pair in zip(then, now, strict=False) if pair[0] != pair[1]), (then, now))
            return handled, f"line {step.line}: then {shortened(str(other[0]))}, now {shortened(str(other[1]))}"
    return handled, ""


def answering(event: Event, asked: dict[str, Instruction]) -> Event:
    """An answer, with the machine's own instruction in the place of the recorded one, if it gave an equal one."""
    if isinstance(event, Done | Failed) and isinstance(event.instruction, Asked):
        own = asked.pop(event.instruction.text, None)
        if own is not None and isinstance(event, Done):
            return Done(event.at, own, event.outcome)
        if own is not None and isinstance(event, Failed):
            return Failed(event.at, own, event.error, event.may_retry)
    return event


def _chained(
    number: int, record: dict[str, Any], more: Iterator[tuple[int, dict[str, Any]]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    yield number, record
    yield from more


def _lines(lines: Iterable[bytes], service: str, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, text in enumerate(lines, start=1):
        if not text.endswith(b"\n"):
            return  # the process ended in the middle of a line
        try:
            record = msgspec.json.decode(text)
        except MALFORMED as error:
            raise InputError(f"{where}, line {number}: not a line of a journal: {shortened(str(error))}") from None
        if not isinstance(record, dict) or not ("event" in record or "settings" in record):
            raise InputError(f"{where}, line {number}: not a line of a service's journal (setting process.journal)")
        if record.get("service") == service:
            yield number, record


def _steps(lines: Iterator[tuple[int, dict[str, Any]]], where: str) -> Iterator[Step]:
    for number, record in lines:
        if "settings" in record:
            return
        try:
            yield Step(_event(record["event"]), tuple(record.get("do", ())), number)
        except (KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
            raise InputError(f"{where}, line {number}: not an event: {shortened(repr(error))}") from None


def _event(told: Mapping[str, Any]) -> Event:
    return _READ[told["is"]](told, float(told["at"]))


def _arrived(told: Mapping[str, Any], at: float) -> Event:
    message = msgspec.convert(told["message"], MESSAGES[told["of"]], str_keys=True)
    return Arrived(at, message, told["subject"], told["seq"], told["redelivered"], told["trace"])


def _done(told: Mapping[str, Any], at: float) -> Event:
    outcome = told["outcome"]
    match outcome:
        case {"is": "Stored"}:
            outcome = Stored(outcome["seq"], outcome["duplicate"])
        case {"is": "LostRace"}:
            outcome = LostRace(outcome["expected"], outcome["last"])
    return Done(at, _asked(told), outcome)


def _asked(told: Mapping[str, Any]) -> Asked:
    return Asked(key(told["instruction"]), str(told["instruction"].get("id", "")))


_READ: Final[Mapping[str, Callable[[Mapping[str, Any], float], Event]]] = {
    "Arrived": _arrived,
    "Gone": lambda told, at: Gone(at, CHANNEL_BY_TITLE[told["channel"]], told["subject"]),
    "Synced": lambda told, at: Synced(at, CHANNEL_BY_TITLE[told["channel"]], told["seq"]),
    "Missed": lambda told, at: Missed(at, CHANNEL_BY_TITLE[told["channel"]], told["count"]),
    "Tick": lambda told, at: Tick(at, told["name"]),
    "Done": _done,
    "Failed": lambda told, at: Failed(at, _asked(told), told["error"], told["may_retry"]),
    "Stopping": lambda _, at: Stopping(at),
}
