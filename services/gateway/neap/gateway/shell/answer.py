"""What a Kubernetes API server answers: pages, objects, lines of a watch, and complaints as our errors."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, Generic, TypeVar

import msgspec

from neap.common.errors import Conflict, Denied, Expired, PortError, Rejected, Throttled, Unavailable, Vanished
from neap.common.kube.kind import Kind
from neap.common.kube.port import Change, Watched
from neap.common.units import Seconds

T = TypeVar("T")

BUDGETS_AT_ODDS: Final = "more than one PodDisruptionBudget"  # it answers 500 then, as it does for its own faults
EXCERPT: Final = 300  # characters of what is no Status
MEANING: Final[Mapping[int, type[PortError]]] = {
    400: Rejected, 401: Denied, 403: Denied, 404: Vanished, 405: Rejected, 406: Rejected, 409: Conflict, 410: Expired,
    413: Rejected, 415: Rejected, 422: Rejected,
}  # fmt: skip


class _PageMetadata(msgspec.Struct, frozen=True):
    version: str = msgspec.field(default="", name="resourceVersion")
    token: str = msgspec.field(default="", name="continue")


class _PageOf(msgspec.Struct, Generic[T], frozen=True):
    metadata: _PageMetadata = _PageMetadata()
    items: tuple[T, ...] | None = None


class _Line(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class _Versioned(msgspec.Struct, frozen=True):
    metadata: _PageMetadata = _PageMetadata()


class _Cause(msgspec.Struct, frozen=True):
    field: str = ""


class _Details(msgspec.Struct, frozen=True):
    causes: tuple[_Cause, ...] = ()
    after: float = msgspec.field(default=0.0, name="retryAfterSeconds")


class _Status(msgspec.Struct, frozen=True):
    code: int = 0
    reason: str = ""
    message: str = ""
    details: _Details | None = None


_LINE: Final = msgspec.json.Decoder(_Line)
_STATUS: Final = msgspec.json.Decoder(_Status)
_VERSIONED: Final = msgspec.json.Decoder(_Versioned)


@lru_cache(maxsize=256)
def page_decoder(kind: Kind[T]) -> msgspec.json.Decoder[_PageOf[T]]:
    """Of a list."""
    return msgspec.json.Decoder(_PageOf[kind.model])  # type: ignore[name-defined]


@lru_cache(maxsize=256)
def object_decoder(kind: Kind[T]) -> msgspec.json.Decoder[T]:
    """Of one object."""
    return msgspec.json.Decoder(kind.model)


def decode(decoder: msgspec.json.Decoder[T], raw: bytes | msgspec.Raw, what: str) -> T:
    """Decode.

    Raises:
        Rejected: it is not what was asked for; says where.
    """
    try:
        return decoder.decode(raw)
    except msgspec.MsgspecError as error:
        raise Rejected(f"{what}: the answer cannot be read: {error}") from error


def watched(kind: Kind[T], line: bytes, what: str) -> Watched[T]:
    """One line of a watch.

    Raises:
        PortError: it is a complaint (Expired above all), or nothing that is known.
    """
    said = decode(_LINE, line, what)
    if said.type == "ERROR":
        raise complaint(0, bytes(said.object), what)
    try:
        change = Change(said.type)
    except ValueError:
        raise Rejected(f"{what}: {said.type} is no change that is known") from None
    version = decode(_VERSIONED, said.object, what).metadata.version
    if change is Change.BOOKMARK:
        return Watched(change, version, None)
    return Watched(change, version, decode(object_decoder(kind), said.object, what))


def complaint(code: int, raw: bytes, what: str, after: Seconds = 0.0) -> PortError:
    """The error that a status code, and the Status that comes with it, mean."""
    try:
        status = _STATUS.decode(raw)
    except msgspec.MsgspecError:
        status = _Status(message=raw[:EXCERPT].decode(errors="replace").strip())
    code = code or status.code
    text = f"{what}: {code} {status.reason}: {status.message}"
    if code == 429:
        return Throttled(text, after or (status.details.after if status.details else 0.0))
    if code >= 500 and BUDGETS_AT_ODDS in status.message:
        return Rejected(text)
    if code == 422 and status.details and any(cause.field == "metadata.uid" for cause in status.details.causes):
        return Conflict(text)  # a patch that means another object of this name
    return MEANING.get(code, Unavailable)(text)


def retry_after(headers: Mapping[str, str]) -> Seconds:
    """Seconds that Retry-After says; 0 if it says nothing, or a date."""
    said: Any = headers.get("Retry-After", "")
    return float(said) if said.isdecimal() else 0.0
