"""What the API server's answers mean, and how a stream becomes lines."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import Conflict, Denied, Expired, PortError, Rejected, Throttled, Unavailable, Vanished
from neap.common.kube.objects import PODS
from neap.gateway.shell.answer import complaint, retry_after, watched
from neap.gateway.shell.line import lines


async def _pieces(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def split(pieces: Sequence[bytes], longest: int = 1 << 20) -> list[bytes]:
    async def read() -> list[bytes]:
        return [line async for line in lines(_pieces(pieces), longest)]

    return asyncio.run(read())


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line)), st.lists(st.integers(min_value=0, max_value=400)))
def test_lines_are_the_same_however_the_stream_is_cut(texts: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(text + b"\n" for text in texts)
    places = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    assert split(pieces) == [text for text in texts if text]


def test_a_stream_that_ends_within_a_line_says_so() -> None:
    with pytest.raises(EOFError, match="after 2 bytes"):
        split([b"abc\nd", b"e"])
    with pytest.raises(EOFError, match="more than 3 bytes"):
        split([b"abc", b"d", b"\n"], longest=3)


def status(code: int, message: str = "m", **details: Any) -> bytes:
    return json.dumps({"kind": "Status", "code": code, "reason": "R", "message": message, "details": details}).encode()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (400, Rejected), (401, Denied), (403, Denied), (404, Vanished), (405, Rejected), (409, Conflict), (410, Expired),
        (413, Rejected), (415, Rejected), (422, Rejected), (429, Throttled), (500, Unavailable), (503, Unavailable),
        (504, Unavailable), (418, Unavailable),
    ],
)  # fmt: skip
def test_every_code_means_one_error(code: int, kind: type[PortError]) -> None:
    assert type(complaint(code, status(code), "what")) is kind
    assert type(complaint(code, b"<html>no status</html>", "what")) is kind
    assert type(complaint(0, status(code), "what")) is kind  # as a watch tells it
    assert "what" in str(complaint(code, b"\xff", "what"))


def test_what_the_code_does_not_say_the_status_does() -> None:
    several = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    assert type(complaint(500, status(500, several), "evict")) is Rejected
    another = complaint(422, status(422, causes=[{"reason": "FieldValueInvalid", "field": "metadata.uid"}]), "patch")
    assert type(another) is Conflict
    told = complaint(429, status(429, retryAfterSeconds=10), "evict")
    assert isinstance(told, Throttled)
    assert told.after == 10.0
    headed = complaint(429, status(429, retryAfterSeconds=10), "evict", 3.0)
    assert isinstance(headed, Throttled)
    assert headed.after == 3.0


def test_when_to_come_again_is_seconds_or_unknown() -> None:
    assert [retry_after({"Retry-After": said}) for said in ("7", "Wed, 21 Oct 2026 07:28:00 GMT", "-1", "")] == [
        7,
        0,
        0,
        0,
    ]
    assert retry_after({}) == 0


def test_a_line_of_a_watch_that_is_no_change_is_an_error() -> None:
    with pytest.raises(Expired):
        watched(PODS, json.dumps({"type": "ERROR", "object": json.loads(status(410))}).encode(), "watch")
    for line in (
        b"{}",
        b"[]",
        b"{",
        b'{"type": "LOST", "object": {}}',
        b'{"type": "ADDED", "object": {"metadata": 1}}',
    ):
        with pytest.raises(Rejected):
            watched(PODS, line, "watch")
