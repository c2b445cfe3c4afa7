"""The history as pages on the bus, and back: each page holds rows of one table, or a stretch of one ring.

    containers-3    names, times, samples, start-up peaks, kills and histograms of rows 768 .. 1023
    services-0      names and times of services; nodes-0 and tracked-0 likewise
    cpu-17-2        a stretch of windows (mod those of the ring) of a block of rows; rings cpu, memory, day, weeks, fortnight
    past-0          lines of the past that were told

A page is a MessagePack struct, compressed where that is worth it; of a ring each plane by itself, since how often it was
used is worth it and how much seldom is. It is decoded whole before anything of it is used;
another layout, a page cut short or of another shape raises InputError, and nothing has changed.
"""

from __future__ import annotations

import zlib
from typing import Final, TypeAlias, TypeVar

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from neap.common.errors import InputError
from neap.common.model.past import HistoryPage
from neap.common.units import Bytes, Seconds
from neap.foresight.series import Values
from neap.planner.core.desk import SOURCE

VERSION: Final = 1  # of everything here
LEVEL: Final = 1  # of compression
WORTH: Final = 0.75  # share to which a page must shrink: an hour of many services is noise, and slow to unpack
SMALL, RAW = b"z", b"r"  # first byte
LARGEST: Final[Bytes] = 64 << 20  # a page unpacked; ours are below one MiB

T = TypeVar("T", bound=msgspec.Struct)


class Told(msgspec.Struct, frozen=True, kw_only=True, tag="rows"):
    """Rows of a table of services or nodes: `keys` and, in their order, first, last, heard and live."""

    table: str
    rows: list[int]
    keys: list[str]
    times: bytes  # float64 [4, rows]
    extra: list[str] = []  # what else is known of each


class Killed(msgspec.Struct, frozen=True, array_like=True):
    """A kill for memory in a row."""

    row: int
    at: float
    uid: str
    had: int


class Sparse(msgspec.Struct, frozen=True, array_like=True):
    """Histograms of the rows: weights where there are any, as seen from `reference`."""

    reference: float
    half_life: float
    latest: bytes  # float64 [rows]
    places: bytes  # uint32: place in [rows, buckets]
    weights: bytes  # float32


class Measured(msgspec.Struct, frozen=True, array_like=True):
    """One resource of the rows."""

    histograms: Sparse
    startup: bytes  # float64 [rows, 2]
    worst: bytes  # float64 [2, rows]: value, time
    worst_uid: list[str]


class ContainerRows(msgspec.Struct, frozen=True, kw_only=True, tag="containers"):
    """A block of the containers' table."""

    rows: list[int]
    services: list[str]
    names: list[str]
    times: bytes  # float64 [4, rows]
    samples: bytes  # int64 [rows]
    turn: int
    kills: list[Killed]
    cpu: Measured
    memory: Measured


class RingPart(msgspec.Struct, frozen=True, kw_only=True, tag="ring"):
    """A stretch of a ring for a block of rows."""

    ring: str
    part: tuple[int, int]  # which stretch, which block
    size: tuple[int, int]  # rows and windows of such a part, by layout
    rows: int
    newest: int  # window of the ring, then
    length: float  # of a window, seconds
    planes: dict[str, bytes]
    small: list[str] = []  # planes that are compressed by themselves


class Lines(msgspec.Struct, frozen=True, kw_only=True, tag="past"):
    """Lines that were told, and from when to when; a line comes once for each of its spans."""

    lines: bytes  # uint64
    spans: bytes  # float64 [lines, 2]


Page: TypeAlias = Told | ContainerRows | RingPart | Lines
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Page)


def packed(name: str, page: Page, rows: int, at: Seconds) -> HistoryPage:
    """A page as it goes on the bus."""
    if isinstance(page, RingPart):
        found = {plane: small for plane, raw in page.planes.items() if (small := _squeezed(raw)) is not None}
        what = RAW + _ENCODER.encode(msgspec.structs.replace(page, planes=page.planes | found, small=list(found)))
    else:
        raw = _ENCODER.encode(page)
        small = _squeezed(raw)
        what = RAW + raw if small is None else SMALL + small
    return HistoryPage(at=at, source=SOURCE, page=name, version=VERSION, rows=rows, what=what)


def unpacked(message: HistoryPage) -> Page:
    """And back.

    Raises:
        InputError: it cannot be read.
    """
    if message.version != VERSION:
        raise InputError(f"history page {message.page}: layout {message.version}, wanted {VERSION}")
    kind, content = message.what[:1], message.what[1:]
    try:
        if kind == SMALL:
            content = _loosened(content)
        elif kind != RAW:
            raise InputError(f"history page {message.page}: begins with {kind!r}")
        page: Page = _DECODER.decode(content)
        if isinstance(page, RingPart) and page.small:
            found = {plane: _loosened(page.planes[plane]) for plane in page.small}
            page = msgspec.structs.replace(page, planes=page.planes | found, small=[])
    except (zlib.error, msgspec.MsgspecError, UnicodeError, KeyError, ValueError) as error:
        raise InputError(f"history page {message.page}: {error}") from None
    return page


def _squeezed(raw: bytes) -> bytes | None:
    small = zlib.compress(raw, LEVEL)
    return small if len(small) < WORTH * len(raw) else None


def _loosened(small: bytes) -> bytes:
    unzip = zlib.decompressobj()
    raw = unzip.decompress(small, LARGEST)
    if not unzip.eof:
        raise ValueError(f"cut short, or longer than {LARGEST} bytes")
    return raw


def floats(content: bytes, *shape: int) -> Values:
    """Numbers of a page, in their shape.

    Raises:
        ValueError: there are more or fewer.
    """
    return numbers(content, np.float64, *shape).astype(np.float64)


def numbers(content: bytes, kind: DTypeLike, *shape: int) -> NDArray[np.generic]:
    """The same of another type."""
    return np.frombuffer(content, kind).reshape(shape)
