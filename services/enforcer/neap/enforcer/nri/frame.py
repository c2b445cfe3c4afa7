"""The two layers of frames between a runtime and a plugin. No I/O.

Multiplexer, of one socket:   | connection 32 | length 32 | bytes ... |            big-endian
ttRPC, of one connection:     | length 32 | stream 32 | type 8 | flags 8 | message ... |, message ≤ 4 MiB

A connection is a stream of bytes: a ttRPC frame may be spread over any number of multiplexer frames. But a Go
peer reads through a buffer of 4096 bytes and gives up on a multiplexer frame that does not fit what it is about to
read, and on the 257th that waits. Go's own writer sends the first 4096 bytes, then all the rest; so do we.

Source: containerd/nri pkg/net/multiplex; containerd/ttrpc PROTOCOL.md, channel.go.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from neap.common.errors import WireError

LARGEST_MESSAGE: Final = 4 << 20  # bytes
FIRST_PIECE: Final = 4096  # bytes
OUTER: Final = struct.Struct(">II")
INNER: Final = struct.Struct(">IIBB")


class Line(IntEnum):
    """Connections of the multiplexer."""

    PLUGIN = 1  # the runtime asks, we answer
    RUNTIME = 2  # we ask, the runtime answers


class Type(IntEnum):
    """Of a ttRPC frame; DATA belongs to streams, which NRI has none of."""

    REQUEST = 1
    RESPONSE = 2
    DATA = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One ttRPC frame."""

    line: int
    stream: int
    type: int
    message: bytes


def encode(frame: Frame) -> bytes:
    """The bytes for the socket.

    Raises:
        WireError: the message is larger than a peer accepts.
    """
    if len(frame.message) > LARGEST_MESSAGE:
        raise WireError(f"NRI: a message of {len(frame.message)} bytes, {LARGEST_MESSAGE} are allowed")
    whole = INNER.pack(len(frame.message), frame.stream, frame.type, 0) + frame.message
    pieces = [piece for piece in (whole[:FIRST_PIECE], whole[FIRST_PIECE:]) if piece]
    return b"".join(OUTER.pack(frame.line, len(piece)) + piece for piece in pieces)


class Decoder:
    """Bytes as they come, in any pieces, to frames. Holds at most one multiplexer frame and one message per line."""

    def __init__(self) -> None:
        self._raw = bytearray()
        self._lines: dict[int, bytearray] = {line: bytearray() for line in Line}
        self.skipped = 0  # bytes of connections we do not know: a newer runtime may open more

    @property
    def held(self) -> int:
        """Bytes waiting for the rest of their frame."""
        return len(self._raw) + sum(len(waiting) for waiting in self._lines.values())

    def feed(self, piece: bytes) -> list[Frame]:
        """The frames that are whole now.

        Raises:
            WireError: a length or connection that cannot be; nothing after it can be understood.
        """
        self._raw += piece
        frames: list[Frame] = []
        at = 0
        while len(self._raw) - at >= OUTER.size:
            line, size = OUTER.unpack_from(self._raw, at)
            if line == 0 or size > INNER.size + LARGEST_MESSAGE:
                raise WireError(f"NRI: a frame of {size} bytes for connection {line}")
            if len(self._raw) - at < OUTER.size + size:
                break
            at += OUTER.size
            frames += self._take(line, bytes(self._raw[at : at + size]))
            at += size
        del self._raw[:at]
        return frames

    def _take(self, line: int, piece: bytes) -> list[Frame]:
        waiting = self._lines.get(line)
        if waiting is None:
            self.skipped += len(piece)
            return []
        waiting += piece
        frames: list[Frame] = []
        at = 0
        while len(waiting) - at >= INNER.size:
            size, stream, type, _ = INNER.unpack_from(waiting, at)
            if size > LARGEST_MESSAGE:
                raise WireError(f"NRI: a message of {size} bytes, {LARGEST_MESSAGE} are allowed")
            if len(waiting) - at < INNER.size + size:
                break
            at += INNER.size
            frames.append(Frame(line, stream, type, bytes(waiting[at : at + size])))
            at += size
        del waiting[:at]
        return frames
