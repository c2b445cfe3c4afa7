"""Laws of NRI's bytes: Google's protobuf runtime agrees, any pieces give the same frames, nonsense is an error."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neap.common.errors import WireError
from neap.common.testing import nrid
from neap.enforcer.nri import schema
from neap.enforcer.nri.drift import drift
from neap.enforcer.nri.frame import LARGEST_MESSAGE, Decoder, Frame, Line, Type, encode
from neap.enforcer.nri.model import Adjustment, Container, Device, Pod, Resources, Update
from neap.enforcer.nri.wire import Shape

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
tables = st.dictionaries(texts, texts, max_size=2)
signed, unsigned = st.integers(-(2**63), 2**63 - 1), st.integers(0, 2**64 - 1)
resources = st.builds(
    Resources,
    cpus=texts,
    mems=texts,
    shares=st.none() | unsigned,
    quota=st.none() | signed,
    period=st.none() | unsigned,
    memory_limit=st.none() | signed,
    unified=tables,
)
devices = st.builds(
    Device, path=texts, type=texts, major=signed, minor=signed, file_mode=st.none() | st.integers(0, 2**32 - 1)
)
adjustments = st.builds(
    Adjustment,
    resources=resources,
    env=tables,
    devices=st.lists(devices, max_size=2).map(tuple),
    oom_score_adj=st.none() | signed,
)
pods = st.builds(
    Pod, id=texts, uid=texts, name=texts, namespace=texts, labels=tables, annotations=tables, cgroup_parent=texts
)
containers = st.builds(
    Container,
    id=texts,
    pod_id=texts,
    name=texts,
    state=st.integers(0, 2**31 - 1),
    labels=tables,
    annotations=tables,
    pid=st.integers(0, 2**32 - 1),
    cgroup=texts,
    oom_score_adj=st.none() | signed,
    resources=resources,
)
updates = st.builds(Update, container_id=texts, resources=resources, ignore_failure=st.booleans())
parts = st.builds(
    schema.Synchronize,
    pods=st.lists(pods, max_size=1).map(tuple),
    containers=st.lists(containers, max_size=2).map(tuple),
    more=st.booleans(),
)
MESSAGES: list[tuple[Shape[Any], str, st.SearchStrategy[Any]]] = [
    (schema.SYNCHRONIZE, "SynchronizeRequest", parts),
    (schema.CREATED, "CreateContainerResponse", st.builds(schema.Created, adjustment=adjustments)),
    (schema.CHANGES, "UpdateContainersRequest", st.builds(schema.Changes, updates=st.tuples(updates))),
    (schema.REQUEST, "Request", st.builds(schema.Request, service=texts, method=texts, payload=st.binary())),
]
frames = st.builds(
    Frame,
    line=st.sampled_from(list(Line)),
    stream=st.integers(0, 2**32 - 1),
    type=st.sampled_from(list(Type)),
    message=st.binary(max_size=64) | st.integers(4000, 9000).map(bytes),
)


@pytest.mark.parametrize(("shape", "name", "values"), MESSAGES, ids=[name for _, name, _ in MESSAGES])
@given(data=st.data())
def test_googles_runtime_reads_what_we_write_and_writes_what_we_read(
    shape: Shape[Any], name: str, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    value = data.draw(values)
    raw = shape.encode(value)
    assert shape.decode(raw) == value
    theirs = nrid.encode(name, nrid.decode(name, raw))
    assert shape.decode(theirs) == value
    assert nrid.decode(name, theirs) == nrid.decode(name, raw)


@given(st.lists(frames, max_size=5), st.data())
def test_frames_survive_any_pieces(sent: list[Frame], data: st.DataObject) -> None:
    raw = b"".join(encode(frame) for frame in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=20)))
    decoder, heard = Decoder(), []
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        heard += decoder.feed(raw[start:end])
    assert heard == sent
    assert decoder.held == 0


@given(st.lists(st.binary(max_size=200), max_size=20))
def test_a_decoder_raises_its_own_error_or_holds_what_it_was_fed(pieces: list[bytes]) -> None:
    decoder = Decoder()
    fed = 0
    with suppress(WireError):
        for piece in pieces:
            fed += len(piece)
            decoder.feed(piece)
            assert decoder.held + decoder.skipped <= fed


@pytest.mark.parametrize(("shape", "name", "values"), MESSAGES, ids=[name for _, name, _ in MESSAGES])
@given(data=st.data())
def test_a_damaged_message_is_an_error_of_ours_or_a_message(
    shape: Shape[Any], name: str, values: st.SearchStrategy[Any], data: st.DataObject
) -> None:
    raw = bytearray(shape.encode(data.draw(values)) or b"\0")
    for at, byte in data.draw(st.lists(st.tuples(st.integers(0, len(raw) - 1), st.integers(0, 255)), max_size=4)):
        raw[at] = byte
    cut = data.draw(st.integers(0, len(raw)))
    for damaged in (bytes(raw), bytes(raw[:cut]), data.draw(st.binary(max_size=100))):
        with suppress(WireError):
            shape.encode(shape.decode(damaged))


@given(resources, resources)
def test_drift_put_right_is_no_drift(found: Resources, wanted: Resources) -> None:
    lacking = drift(found, wanted)
    assert drift(wanted, wanted) is None
    if lacking is not None:
        assert drift(lacking, lacking) is None
        assert drift(Resources(), lacking) is not None


def test_a_decoder_holds_no_more_than_one_message_and_one_frame() -> None:
    decoder = Decoder()
    tracemalloc.start()
    try:
        for line in (1, 2, 3, 4):
            for _ in range(4):  # messages that promise 4 MiB and come in one-megabyte frames
                decoder.feed(line.to_bytes(4, "big") + (1 << 20).to_bytes(4, "big"))
                decoder.feed((LARGEST_MESSAGE.to_bytes(4, "big") + bytes(6)).ljust(1 << 20, b"\0"))
        decoder.feed(b"\0\0\0\1" + (4 << 20).to_bytes(4, "big") + bytes(1 << 20))
        assert decoder.held <= 2 * (LARGEST_MESSAGE + 10) + (4 << 20) + 18
        assert tracemalloc.get_traced_memory()[0] < 32 << 20
    finally:
        tracemalloc.stop()
