"""Lines of a stream that comes in pieces: a watch tells one object per line, and an object may have several MiB."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final

LONGEST: Final = 1 << 26  # bytes; etcd takes 1.5 MiB, which JSON may write six times as long


async def lines(pieces: AsyncIterator[bytes], longest: int = LONGEST) -> AsyncIterator[bytes]:
    """Every line that is not empty, without its end. Cost: O(bytes), however many pieces a line comes in.

    Raises:
        EOFError: the stream ends within a line, or a line does not end.
    """
    parts: list[bytes] = []
    length = 0
    async for piece in pieces:
        first, *more = piece.split(b"\n")
        parts.append(first)
        length += len(first)
        for part in more:
            if length:
                yield b"".join(parts)
            parts, length = [part], len(part)
        if length > longest:
            raise EOFError(f"a line of more than {longest} bytes")
    if length:
        raise EOFError(f"the stream ends within a line, after {length} bytes of it")
