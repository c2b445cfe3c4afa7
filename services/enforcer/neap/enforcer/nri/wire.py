"""Protobuf's wire format, read into and written from flat frozen Structs.

A Shape maps each attribute of a Struct to its place: the field numbers on the way down through nested messages, and
the kind of the last one. `cpus=Field((2, 6), TEXT)` is field 6 of the message in field 2. What has no place is
skipped, so newer peers may say more. Fields are written in ascending order and map keys sorted: the same value is
always the same bytes.

The protobuf runtime would cost an agent 6.3 MiB for the dozen messages we speak; this costs next to nothing, and
tests hold it against that runtime. Reading raises WireError and nothing else, and makes at most LONGEST objects of
one list or map.

Source: protobuf documentation, "Encoding".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeAlias, TypeVar

import msgspec

from neap.common.errors import WireError

T = TypeVar("T", bound=msgspec.Struct)

LONGEST: Final = 1 << 14  # entries of one list or map; far more than a node has containers
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types; groups (3 and 4) are no part of proto3
WORD: Final = 1 << 64
LARGEST_FIELD: Final = (1 << 29) - 1


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is written after its field number, and read: (what was read so far, what came) -> value."""

    wire: int
    read: Callable[[Any, Any], Any]
    write: Callable[[int, Any], bytes]


@dataclass(frozen=True, slots=True)
class Field:
    """Where an attribute lives: field numbers on the way down, and the kind of the last."""

    path: tuple[int, ...]
    kind: Kind


@dataclass(frozen=True, slots=True)
class _Leaf:
    attribute: str
    kind: Kind


_Tree: TypeAlias = "dict[int, _Leaf | _Tree]"


class Shape(Generic[T]):
    """One message type. See module docstring."""

    def __init__(self, struct: type[T], **fields: Field) -> None:
        assert set(fields) <= set(struct.__struct_fields__), f"{struct.__name__} has not all of {sorted(fields)}"
        self._struct = struct
        self._tree: _Tree = {}
        for attribute, field in sorted(fields.items(), key=lambda item: item[1].path):
            below = self._tree
            for number in field.path[:-1]:
                inside = below.setdefault(number, {})
                assert isinstance(inside, dict), f"field {number} of {struct.__name__} is a message and a value"
                below = inside
            below[field.path[-1]] = _Leaf(attribute, field.kind)

    def decode(self, payload: bytes) -> T:
        """Read a message; unknown fields, and known ones of another wire type, are skipped.

        Raises:
            WireError: truncated, malformed, or a list is too long.
        """
        found: dict[str, Any] = {}
        _read(self._tree, payload, found)
        return self._struct(**{name: tuple(value) if type(value) is list else value for name, value in found.items()})

    def encode(self, value: T) -> bytes:
        """Write a message; what equals proto3's default is not written.

        Raises:
            WireError: a text cannot be written in UTF-8.
        """
        return _write(self._tree, value)


def _read(tree: _Tree, payload: bytes, found: dict[str, Any]) -> None:
    for number, wire, value in fields_of(payload):
        place = tree.get(number)
        if isinstance(place, dict):
            if wire == BYTES:
                _read(place, value, found)
        elif place is not None and wire == place.kind.wire:
            found[place.attribute] = place.kind.read(found.get(place.attribute), value)


def _write(tree: _Tree, value: msgspec.Struct) -> bytes:
    parts = []
    for number, place in tree.items():
        if isinstance(place, dict):
            inside = _write(place, value)
            parts.append(sized(number, inside) if inside else b"")
        else:
            parts.append(place.kind.write(number, getattr(value, place.attribute)))
    return b"".join(parts)


def fields_of(payload: bytes) -> Iterator[tuple[int, int, Any]]:
    """Field number, wire type, and an int (VARINT) or bytes.

    Raises:
        WireError: truncated or malformed.
    """
    at, end = 0, len(payload)
    while at < end:
        key, at = _varint(payload, at)
        number, wire = key >> 3, key & 7
        if not 0 < number <= LARGEST_FIELD:
            raise WireError(f"protobuf: no field has number {number}")
        if wire == VARINT:
            value, at = _varint(payload, at)
            yield number, wire, value
            continue
        if wire == BYTES:
            size, at = _varint(payload, at)
        elif wire in (FIXED64, FIXED32):
            size = 8 if wire == FIXED64 else 4
        else:
            raise WireError(f"protobuf: field {number} has wire type {wire}")
        if size > end - at:
            raise WireError(f"protobuf: field {number} should have {size} bytes, {end - at} are left")
        yield number, wire, payload[at : at + size]
        at += size


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """Seven bits a byte, lowest first; at most ten bytes, and what is above 64 bits is lost."""
    value = shift = 0
    for byte in payload[at : at + 10]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value % WORD, at
        shift += 7
    raise WireError("protobuf: a number that does not end")


def varint(value: int) -> bytes:
    """The shortest form; a negative number is its two's complement in 64 bits."""
    value %= WORD
    parts = bytearray()
    while value > 0x7F:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def sized(number: int, inside: bytes) -> bytes:
    """A field of bytes, text or a message."""
    return varint(number << 3 | BYTES) + varint(len(inside)) + inside


# -- kinds -----------------------------------------------------------------------------------------------------------


def _number(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def _signed(_: object, value: int) -> int:
    return value - WORD if value >= WORD // 2 else value


def _from_text(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise WireError(f"protobuf: {text[:80]!r} is not UTF-8: {error.reason}") from None


def _to_text(_: object, raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise WireError(f"protobuf: {raw[:80]!r} is not UTF-8: {error.reason}") from None


TEXT: Final = Kind(BYTES, _to_text, lambda number, text: sized(number, _from_text(text)) if text else b"")
RAW: Final = Kind(BYTES, lambda _, raw: raw, lambda number, raw: sized(number, raw) if raw else b"")
FLAG: Final = Kind(VARINT, lambda _, value: value != 0, _number)
WHOLE: Final = Kind(VARINT, _signed, _number)
NATURAL: Final = Kind(VARINT, lambda _, value: value, _number)


def optional(kind: Kind) -> Kind:
    """A message around one number, so that 0 and "not said" differ: None is not said."""

    def read(_: object, raw: bytes) -> Any:
        said = [value for number, wire, value in fields_of(raw) if (number, wire) == (1, kind.wire)]
        return kind.read(None, said[-1] if said else 0)

    return Kind(BYTES, read, lambda number, value: b"" if value is None else sized(number, kind.write(1, value)))


def one(shape: Shape[Any], *, always: bool = False) -> Kind:
    """A message; None is not said, and one that says nothing only if it is to be said `always`."""

    def write(number: int, value: Any) -> bytes:
        inside = b"" if value is None else shape.encode(value)
        return sized(number, inside) if inside or always else b""

    return Kind(BYTES, lambda _, raw: shape.decode(raw), write)


def many(shape: Shape[Any]) -> Kind:
    """Messages, a tuple."""

    def read(before: list[Any] | None, raw: bytes) -> list[Any]:
        values = [] if before is None else before
        _check_length(len(values))
        values.append(shape.decode(raw))
        return values

    return Kind(BYTES, read, lambda number, values: b"".join(sized(number, shape.encode(each)) for each in values))


def _read_pair(before: dict[str, str] | None, raw: bytes) -> dict[str, str]:
    table = {} if before is None else before
    _check_length(len(table))
    pair = {1: b"", 2: b""}
    pair.update({number: value for number, wire, value in fields_of(raw) if number in pair and wire == BYTES})
    table[_to_text(None, pair[1])] = _to_text(None, pair[2])
    return table


def _write_pairs(number: int, table: Mapping[str, str]) -> bytes:
    pairs = ((sized(1, _from_text(key)), sized(2, _from_text(table[key]))) for key in sorted(table))
    return b"".join(sized(number, key + value) for key, value in pairs)


TABLE: Final = Kind(BYTES, _read_pair, _write_pairs)


def _check_length(length: int) -> None:
    if length >= LONGEST:
        raise WireError(f"protobuf: more than {LONGEST} entries in one list")
