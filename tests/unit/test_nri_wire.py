"""NRI's bytes, against vectors worked out by hand from the protocol documents: both sides cannot be wrong together."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec
import pytest

from neap.common.errors import WireError
from neap.common.runtime.clock import wall_clock
from neap.enforcer.nri.client import NriClient
from neap.enforcer.nri.drift import drift
from neap.enforcer.nri.frame import Decoder, Frame, Line, Type, encode
from neap.enforcer.nri.model import Adjustment, Container, Joined, Pod, Resources, Told, Update
from neap.enforcer.nri.schema import ABOUT, CONTAINER, CREATED, RESOURCES, UPDATE, Created
from neap.enforcer.nri.settings import NriSettings
from neap.enforcer.nri.wire import LONGEST, TABLE, TEXT, WHOLE, Field, Shape, fields_of, varint
from tests.conftest import SOON

# -- the handshake, byte for byte ------------------------------------------------------------------------------------

REGISTER = (
    b"\0\0\0\2" b"\0\0\0\x44"  # connection 2, 68 bytes
    b"\0\0\0\x3a" b"\0\0\0\1" b"\1" b"\0"  # 58 bytes, stream 1, request, no flags
    b"\x0a\x1cnri.pkg.api.v1alpha1.Runtime"
    b"\x12\x0eRegisterPlugin"
    b"\x1a\x0a" b"\x0a\4neap" b"\x12\00290"
)  # fmt: skip
REGISTERED = b"\0\0\0\2" b"\0\0\0\x0c" b"\0\0\0\2" b"\0\0\0\1" b"\2" b"\0" b"\x0a\0"  # fmt: skip
CONFIGURE = (
    b"\0\0\0\1" b"\0\0\0\x42"
    b"\0\0\0\x38" b"\0\0\0\1" b"\1" b"\0"
    b"\x0a\x1bnri.pkg.api.v1alpha1.Plugin"
    b"\x12\x09Configure"
    b"\x1a\x0b" b"\x12\4crio" b"\x28\xd0\x0f" b"\x40\0"  # request_timeout 2000, and a field nobody knows
    b"\x20\x80\x01"  # timeout_nano
)  # fmt: skip
CONFIGURED = (
    b"\0\0\0\1" b"\0\0\0\x11"
    b"\0\0\0\7" b"\0\0\0\1" b"\2" b"\0"
    b"\x0a\0"  # success, said aloud
    b"\x12\3" b"\x10\x98\x0d"  # events 1688 = 2^3 + 2^4 + 2^7 + 2^9 + 2^10
)  # fmt: skip
SYNCHRONIZE = (
    b"\0\0\0\1" b"\0\0\0\x4d"
    b"\0\0\0\x43" b"\0\0\0\3" b"\1" b"\0"
    b"\x0a\x1bnri.pkg.api.v1alpha1.Plugin"
    b"\x12\x0bSynchronize"
    b"\x1a\x17" b"\x12\x15" b"\x0a\1c" b"\x20\3" b"\x5a\x0e" b"\x1a\x0c" b"\x12\x0a" b"\x12\3\x08\xa0\x06" b"\x32\0030-3"
)  # fmt: skip
SYNCHRONIZED = (
    b"\0\0\0\1" b"\0\0\0\x1e"
    b"\0\0\0\x14" b"\0\0\0\3" b"\2" b"\0"
    b"\x0a\0"
    b"\x12\x10" b"\x0a\x0e" b"\x0a\1c" b"\x12\x09" b"\x0a\7" b"\x12\5" b"\x32\0030-1"
)  # fmt: skip


async def test_the_handshake_is_byte_for_byte_what_the_protocol_says() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def runtime(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError):
            heard.put_nowait(await reader.readexactly(len(REGISTER)))
            writer.write(CONFIGURE + REGISTERED)  # a runtime may configure before it answers
            heard.put_nowait(await reader.readexactly(len(CONFIGURED)))
            writer.write(SYNCHRONIZE)
            heard.put_nowait(await reader.readexactly(len(SYNCHRONIZED)))
            await reader.read()
        writer.close()

    async def adjust(_: Pod, container: Container) -> Adjustment:
        assert container.resources.quota == 800
        return Adjustment(resources=Resources(cpus="0-1"))

    with TemporaryDirectory(prefix="neap-") as folder:
        path = Path(folder) / "nri.sock"
        server = await asyncio.start_unix_server(runtime, path)
        told: list[Told] = []
        settings = NriSettings(socket=str(path), synchronize_within=1000.0)
        running = asyncio.ensure_future(NriClient(settings, wall_clock(), Random(1), adjust, told.append).run())
        async with asyncio.timeout(SOON):
            said = [await heard.get() for _ in range(3)]
        running.cancel()
        await asyncio.wait([running])
        server.close()
    assert said == [REGISTER, CONFIGURED, SYNCHRONIZED]
    assert [type(each) for each in told] == [Joined]


# -- frames ----------------------------------------------------------------------------------------------------------


def test_a_long_message_leaves_in_the_two_pieces_a_go_peer_can_take() -> None:
    raw = encode(Frame(Line.PLUGIN, 5, Type.RESPONSE, b"x" * 10_000))
    assert raw[:18] == b"\0\0\0\1\0\0\x10\0" + b"\0\0\x27\x10\0\0\0\5\2\0"
    assert raw[8 + 4096 :][:8] == b"\0\0\0\1" + (10_010 - 4096).to_bytes(4, "big")
    assert len(raw) == 8 + 8 + 10_010


def test_the_largest_message_passes_and_one_byte_more_does_not() -> None:
    largest = Frame(Line.RUNTIME, 1, Type.REQUEST, bytes(4 << 20))
    decoder = Decoder()
    assert decoder.feed(encode(largest)) == [largest]
    assert decoder.held == 0
    with pytest.raises(WireError, match="4194305 bytes"):
        encode(replace(largest, message=bytes((4 << 20) + 1)))


# -- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "raw"),
    [(0, b"\0"), (1, b"\1"), (127, b"\x7f"), (128, b"\x80\1"), (300, b"\xac\2"), (-1, b"\xff" * 9 + b"\1")],
)
def test_numbers_are_varints(value: int, raw: bytes) -> None:
    assert varint(value) == raw
    assert next(fields_of(b"\x08" + raw)) == (1, 0, value % 2**64)


def test_zero_is_said_where_it_differs_from_nothing() -> None:
    assert RESOURCES.encode(Resources()) == b""
    assert (
        RESOURCES.encode(Resources(shares=0, quota=-1))
        == b"\x12\x0f" + b"\x0a\0" + b"\x12\x0b\x08" + b"\xff" * 9 + b"\1"
    )
    assert RESOURCES.decode(b"\x12\x0f\x0a\0\x12\x0b\x08" + b"\xff" * 9 + b"\1") == Resources(shares=0, quota=-1)


def test_an_adjustment_is_written_as_the_protocol_says() -> None:
    adjustment = Adjustment(env={"K": "V"}, oom_score_adj=500, resources=Resources(unified={"f": "t"}))
    assert CREATED.encode(Created(adjustment=adjustment)) == (
        b"\x0a\x19"
        b"\x22\x06" b"\x0a\1K" b"\x12\1V"
        b"\x32\x0f" b"\x12\x08\x32\6\x0a\1f\x12\1t" b"\x22\3\x08\xf4\3"
    )  # fmt: skip
    assert CREATED.encode(Created()) == b""
    assert UPDATE.encode(Update(container_id="c", ignore_failure=True)) == b"\x0a\1c\x18\1"


def test_parts_of_one_message_are_merged_and_the_last_number_holds() -> None:
    assert RESOURCES.decode(b"\x12\3\x32\0010" + b"\x12\3\x3a\0011" + b"\x12\3\x32\0012") == Resources(
        cpus="2", mems="1"
    )


def test_a_field_of_another_wire_type_is_skipped() -> None:
    assert CONTAINER.decode(b"\x08\1" + b"\x22\1x" + b"\x58\1" + b"\x1a\1n") == Container(name="n")


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\x0a\5four", "should have 5 bytes, 4 are left"),
        (b"\x0a\xff\xff\xff\xff\x0f", "should have 4294967295 bytes"),
        (b"\x20" + b"\xff" * 11, "does not end"),
        (b"\x20\x80", "does not end"),
        (b"\0\1", "no field has number 0"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0f", "wire type 7"),
        (b"\x0a\2\xc3\x28", "not UTF-8"),
        (b"\x11seven b", "should have 8 bytes, 7 are left"),
        (b"\x2a\x04\x0a\7ab", "should have 7 bytes"),
    ],
)
def test_what_cannot_be_read_says_why(raw: bytes, why: str) -> None:
    with pytest.raises(WireError, match=why):
        CONTAINER.decode(raw)


def test_lists_and_maps_are_capped() -> None:
    pairs = [b"\x2a" + varint(len(pair)) + pair for pair in (b"\x0a" + varint(len(k)) + k for k in keys(LONGEST + 1))]
    assert len(CONTAINER.decode(b"".join(pairs[:-1])).labels) == LONGEST
    with pytest.raises(WireError, match="more than 16384 entries"):
        CONTAINER.decode(b"".join(pairs))
    assert ABOUT.decode(b"\x12\0" * (LONGEST + 1)).container == Container()


def keys(count: int) -> list[bytes]:
    return [str(n).encode() for n in range(count)]


def test_a_shape_that_contradicts_itself_is_not_built() -> None:
    class Thing(msgspec.Struct):
        a: str = ""
        b: int = 0

    with pytest.raises(AssertionError, match="a message and a value"):
        Shape(Thing, a=Field((1,), TEXT), b=Field((1, 2), WHOLE))
    with pytest.raises(AssertionError, match="has not all of"):
        Shape(Thing, c=Field((1,), TABLE))


# -- drift -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "wanted", "lacking"),
    [
        (Resources(cpus="0-3"), Resources(), None),
        (Resources(cpus="0,1,2,3", mems="0"), Resources(cpus="0-3", mems="0"), None),
        (Resources(cpus="0-3"), Resources(cpus="0-3", mems="1"), Resources(mems="1")),
        (Resources(cpus="junk"), Resources(cpus="junk"), None),
        (Resources(cpus="junk"), Resources(cpus="1"), Resources(cpus="1")),
        (Resources(quota=5, period=9), Resources(quota=-1, period=9), Resources(quota=-1)),
        (Resources(), Resources(shares=0), Resources(shares=0)),
        (Resources(memory_limit=1), Resources(memory_limit=2), Resources(memory_limit=2)),
        (
            Resources(unified={"a": "1", "b": "2", "c": "3"}),
            Resources(unified={"a": "1", "b": "9"}),
            Resources(unified={"b": "9"}),
        ),
    ],
)
def test_drift_is_what_is_wanted_and_differs(found: Resources, wanted: Resources, lacking: Resources | None) -> None:
    assert drift(found, wanted) == lacking
