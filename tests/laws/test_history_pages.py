"""Laws of the history's pages: they come back as they were, and what is no page is an InputError."""

from __future__ import annotations

import random
import zlib
from contextlib import suppress

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import InputError
from neap.planner.core.history.pages import RAW, SMALL, Lines, Page, RingPart, packed, unpacked

noise = st.builds(lambda seed, size: random.Random(seed).randbytes(size), st.integers(0, 99), st.integers(0, 400))
planes = st.dictionaries(st.sampled_from(["avg", "max", "count"]), noise | st.binary(max_size=40) | st.just(bytes(300)))
parts = st.builds(
    RingPart, ring=st.just("cpu"), part=st.tuples(st.integers(0, 9), st.integers(0, 9)), size=st.just((4, 8)),
    rows=st.integers(0, 4), newest=st.integers(0, 99), length=st.just(3600.0), planes=planes,
)  # fmt: skip
pages = parts | st.builds(Lines, lines=noise, spans=noise)


@given(pages)
def test_a_page_comes_back_as_it_was(page: Page) -> None:
    message = packed("cpu-1-2", page, 4, 1.0)
    assert unpacked(message) == page
    raw = msgspec.msgpack.encode(page)
    assert len(message.what) <= len(raw) + 100


@given(parts)
def test_a_ring_that_was_compressed_as_a_whole_is_read_as_well(page: RingPart) -> None:
    message = packed("cpu-1-2", page, 4, 1.0)
    old = SMALL + zlib.compress(msgspec.msgpack.encode(page), 1)
    assert unpacked(msgspec.structs.replace(message, what=old)) == page


@given(pages, st.data())
def test_what_is_no_page_is_refused_and_nothing_else_is_raised(page: Page, data: st.DataObject) -> None:
    message = packed("cpu-1-2", page, 4, 1.0)
    what = bytearray(message.what)
    for _ in range(data.draw(st.integers(1, 3))):
        what[data.draw(st.integers(0, len(what) - 1))] = data.draw(
            st.sampled_from([0, 1, 0x80, 0xC0, 0xFF, *RAW, *SMALL])
        )
    with suppress(InputError):
        unpacked(msgspec.structs.replace(message, what=bytes(what[: data.draw(st.integers(0, len(what)))])))
