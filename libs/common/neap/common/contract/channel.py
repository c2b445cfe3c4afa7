"""A channel ties a subject pattern, a message type and one of five delivery words together.

    LATEST  core publish; newest wins, loss allowed
    STATE   KV bucket; one value per key, revision-checked
    EVENTS  JetStream; at least once, dedupe by id, durable pull
    LEDGER  JetStream; append refused unless the expected last sequence of the subject matches
    WORK    JetStream work queue; acked once done

    NODE_USAGE.at(node="n1")     the one address of n1's usage
    NODE_USAGE.only(node="n1")   the filter that hears n1; a token not named is a wildcard

Tokens are escaped: Kubernetes names may contain dots but never underscores, so "." <-> "_" is reversible.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any, Final, Generic, TypeVar, get_args

import msgspec

from neap.common.errors import InputError, WireError
from neap.common.units import DAY, MINUTE, Seconds

M = TypeVar("M")
Q = TypeVar("Q")
R = TypeVar("R")

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
_FIELD: Final = re.compile(r"\{(\w+)\}")
_ENCODER: Final = msgspec.json.Encoder()
# RecursionError: nested too deeply; InputError: a message that refuses its own values.
MALFORMED: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InputError)
REASON: Final = 256  # characters of a reason, at most


class Delivery(StrEnum):
    """The five words."""

    LATEST = "LATEST"
    STATE = "STATE"
    EVENTS = "EVENTS"
    LEDGER = "LEDGER"
    WORK = "WORK"


@lru_cache(maxsize=65_536)
def escape(token: str) -> str:
    """A Kubernetes name as one subject token.

    Raises:
        InputError: empty, too long, or with a character no Kubernetes name has (wildcards included).
    """
    escaped = token.replace(".", "_")
    if "_" in token or not _TOKEN.fullmatch(escaped):
        raise InputError(f"not usable in a subject: {token[:80]!r} (letters, digits, '-' and '.')")
    return escaped


def unescape(token: str) -> str:
    """The name behind a subject token."""
    return token.replace("_", ".")


def shortened(reason: str) -> str:
    """A reason, which may quote a whole message, without its middle: what is wrong stands first, where stands last."""
    return reason if len(reason) <= REASON else f"{reason[: REASON // 2]} ... {reason[-REASON // 2 + 5 :]}"


@dataclass(frozen=True)
class Stream:
    """A JetStream stream; every limit is set, because a stream without limits is a disk incident."""

    name: str
    subjects: tuple[str, ...]
    delivery: Delivery
    max_age: Seconds
    max_bytes: int
    max_per_subject: int = -1
    dedupe_window: Seconds = 10 * MINUTE


@dataclass(frozen=True)
class Channel(Generic[M]):
    """One line of the catalogue. `says` and `hears` name services; permissions are generated from them."""

    pattern: str
    message: Any  # type[M]; `Any` because a union of Structs is no `type`
    says: tuple[str, ...]
    hears: tuple[str, ...]
    doc: str
    delivery: Delivery = field(init=False)

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Names of the pattern's tokens, in order."""
        return tuple(_FIELD.findall(self.pattern))

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[M]:
        return msgspec.json.Decoder(self.message)

    @cached_property
    def _repeated(self) -> tuple[tuple[int, str], ...]:
        """Tokens that every message of this channel has as a field too, with their places."""
        kinds = get_args(self.message) or (self.message,)
        named = ((place, token[1:-1]) for place, token in enumerate(self.pattern.split(".")) if token[0] == "{")
        return tuple(
            (place, name) for place, name in named if all(name in getattr(k, "__struct_fields__", ()) for k in kinds)
        )

    def title(self, subject: str = "") -> str:
        """A subject of this channel as logs and metrics name it; its pattern if none is given."""
        return shortened(subject) or self.pattern

    def _fill(self, tokens: dict[str, str], *, open_ended: bool) -> str:
        unknown = set(tokens) - set(self.fields)
        missing = [] if open_ended else [name for name in self.fields if name not in tokens]
        if unknown or missing:
            raise InputError(f"{self.pattern}: unknown tokens {sorted(unknown)}, missing {missing}")
        return _FIELD.sub(lambda m: escape(tokens[m[1]]) if m[1] in tokens else "*", self.pattern)

    def at(self, **tokens: str) -> Address[M]:
        """The concrete subject (for STATE: the key)."""
        return Address(self, self._fill(tokens, open_ended=False))

    def only(self, **tokens: str) -> Pattern[M]:
        """A filter; tokens not named match anything."""
        return Pattern(self, self._fill(tokens, open_ended=True))

    def tokens_of(self, subject: str) -> dict[str, str]:
        """The tokens of a concrete subject, unescaped."""
        names = iter(self.fields)
        mine, theirs = self.pattern.split("."), subject.split(".")
        if len(mine) != len(theirs):
            raise WireError(f"{subject} does not match {self.pattern}")
        return {next(names): unescape(b) for a, b in zip(mine, theirs, strict=True) if a.startswith("{")}

    def encode(self, message: M) -> bytes:
        """Message -> JSON."""
        return _ENCODER.encode(message)

    def decode(self, payload: bytes, subject: str = "") -> M:
        """JSON -> message.

        Raises:
            WireError: names subject and what is wrong where; also where message and subject name different nodes,
                because the right to speak is given by subject.
        """
        try:
            message = self._decoder.decode(payload)
        except MALFORMED as error:
            raise WireError(f"{self.title(subject)}: {shortened(str(error))}") from None
        if subject and self._repeated:
            tokens = subject.split(".")
            for place, name in self._repeated:
                said = str(getattr(message, name))
                if said.replace(".", "_") != tokens[place]:
                    raise WireError(f"{self.title(subject)}: speaks of {name} {shortened(said)!r}")
        return message


@dataclass(frozen=True)
class Latest(Channel[M]):
    """Core publish: newest wins, loss allowed."""

    delivery: Delivery = field(init=False, default=Delivery.LATEST)


@dataclass(frozen=True)
class State(Channel[M]):
    """KV bucket; `pattern` is the key. A key vanishes `ttl` after its last write (0: never)."""

    bucket: str
    ttl: Seconds = 0.0
    max_bytes: int = 256 << 20
    delivery: Delivery = field(init=False, default=Delivery.STATE)

    def title(self, subject: str = "") -> str:
        """The key, or the pattern of all keys, behind its bucket."""
        return f"{self.bucket}/{super().title(subject)}"


@dataclass(frozen=True)
class Events(Channel[M]):
    """JetStream: at least once, dedupe by id."""

    stream: Stream
    delivery: Delivery = field(init=False, default=Delivery.EVENTS)


def _flawless(_: Any) -> str:
    return ""


@dataclass(frozen=True)
class Ledger(Channel[M]):
    """JetStream: append with an expected last sequence of the subject. `flaw` says why an entry is no entry."""

    stream: Stream
    flaw: Callable[[M], str] = _flawless
    delivery: Delivery = field(init=False, default=Delivery.LEDGER)

    def decode(self, payload: bytes, subject: str = "") -> M:
        """JSON -> entry, if there can be such an entry."""
        entry = super().decode(payload, subject)
        if flaw := self.flaw(entry):
            raise WireError(f"{self.title(subject)}: {shortened(flaw)}")
        return entry


@dataclass(frozen=True)
class Work(Channel[M]):
    """JetStream work queue: acked once done, then gone."""

    stream: Stream
    delivery: Delivery = field(init=False, default=Delivery.WORK)


@dataclass(frozen=True)
class Address(Generic[M]):
    """Where one message goes: a subject, or for STATE a key."""

    channel: Channel[M]
    subject: str


@dataclass(frozen=True)
class Pattern(Generic[M]):
    """Which messages are heard: a subject filter, or for STATE a key filter."""

    channel: Channel[M]
    subject: str


@dataclass(frozen=True)
class Endpoint(Generic[Q, R]):
    """Request and reply; one of the responders answers."""

    pattern: str
    request: Any
    reply: Any
    serves: str
    asks: tuple[str, ...]
    doc: str
    timeout: Seconds = 2.0

    def title(self, subject: str = "") -> str:
        """A subject of this endpoint as logs and metrics name it."""
        return subject or self.pattern

    def at(self, **tokens: str) -> str:
        """The concrete subject."""
        return _FIELD.sub(lambda m: escape(tokens[m[1]]), self.pattern)


LEDGER_LIMIT: Final = 4096  # entries kept per node; the scheduler checkpoints far more often
WEEK: Final = 7 * DAY
