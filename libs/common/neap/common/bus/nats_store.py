"""Writing to JetStream: one message under one id, as often as it takes; and making streams and buckets.

Measured with server 2.15: the expected-sequence header is checked *before* the dedupe id. An append that was
stored, but whose acknowledgement was lost, is therefore refused when it is sent again. So a refusal is never
believed alone: if the first message behind the expected sequence carries our id, the append is ours.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from neap.common.bus.health import LOG
from neap.common.bus.nats_pull import NANO, call, refusal
from neap.common.bus.nats_wire import Wire
from neap.common.bus.patience import again
from neap.common.bus.port import LostRace, Stored
from neap.common.contract.channel import Channel, Delivery, State, Stream
from neap.common.contract.subject import (
    bucket_stream,
    create_subject,
    entry_subject,
    inspect_subject,
    key_prefix,
    update_subject,
)
from neap.common.errors import Denied, Unavailable
from neap.common.units import Seconds, format_bytes

WRONG_SEQUENCE: Final = 10071
OTHER_CONFIG: Final = 10058
NO_STREAM: Final = 10059
MARKER_LIFE: Final[Seconds] = 60.0  # how long an expired key's marker waits for watchers that are away
MSG_ID: Final = "Nats-Msg-Id"
EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"


async def store(
    wire: Wire, subject: str, payload: bytes, headers: Mapping[str, str], *, expected: int | None, within: Seconds
) -> Stored | LostRace:
    """Store one message; sent again, as it is, until JetStream answers or `within` is over.

    Raises:
        Denied, Unavailable, or PortError if the stream does not take it.
    """
    sent = {**headers, EXPECTED: str(expected)} if expected is not None else headers

    async def attempt(left: Seconds) -> Stored | LostRace:
        answer = await call(wire, subject, payload, left, sent)
        if "error" not in answer:
            return Stored(int(answer["seq"]), bool(answer.get("duplicate")))
        if expected is not None and answer["error"].get("err_code") == WRONG_SEQUENCE:
            return LostRace(expected, _last(str(answer["error"].get("description"))))
        raise refusal(answer, f"store {subject}")

    return await again(wire.present, f"store {subject}", within, attempt)


def _last(description: str) -> int:
    """The sequence in "wrong last sequence: 7"; 0 if the server puts it otherwise."""
    number = description.rpartition(" ")[2]
    return int(number) if number.isdecimal() else 0


async def stored_behind(wire: Wire, stream: str, subject: str, seen: int, id: str, within: Seconds) -> Stored | None:
    """The append with this id, if it is the first message of its subject behind `seen`."""

    async def attempt(left: Seconds) -> Stored | None:
        answer = await call(wire, entry_subject(stream), {"seq": seen + 1, "next_by_subj": subject}, left)
        if "error" not in answer:
            message = answer["message"]
            headers = base64.b64decode(message.get("hdrs", "")).decode(errors="replace").split("\r\n")
            return Stored(int(message["seq"]), duplicate=True) if f"{MSG_ID}: {id}" in headers else None
        if answer["error"].get("code") == 404:
            return None
        raise refusal(answer, f"read {stream} behind {seen}")

    return await again(wire.present, f"read {subject}", within, attempt)


# -- streams and buckets ---------------------------------------------------------------------------------------------


def stream_config(stream: Stream, replicas: int) -> dict[str, Any]:
    """A catalogue stream as JetStream wants it."""
    return {
        "name": stream.name,
        "subjects": list(stream.subjects),
        "retention": "workqueue" if stream.delivery is Delivery.WORK else "limits",
        "storage": "file",
        "discard": "old",
        "max_age": int(stream.max_age * NANO),
        "max_bytes": stream.max_bytes,
        "max_msgs_per_subject": stream.max_per_subject,
        "duplicate_window": int(_window(stream.dedupe_window, stream.max_age) * NANO),
        "num_replicas": replicas,
    }


def bucket_config(bucket: State[Any], replicas: int) -> dict[str, Any]:
    """A KV bucket as JetStream wants it (ADR-8 of NATS): direct reads, one value per key."""
    expiring = {"allow_msg_ttl": True, "subject_delete_marker_ttl": int(MARKER_LIFE * NANO)} if bucket.ttl else {}
    return {
        "name": bucket_stream(bucket.bucket),
        "subjects": [key_prefix(bucket.bucket) + ">"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_age": int(bucket.ttl * NANO),
        "max_bytes": bucket.max_bytes,
        "max_msgs_per_subject": 1,
        "duplicate_window": int(_window(120.0, bucket.ttl) * NANO),
        "num_replicas": replicas,
        "allow_direct": True,
        "allow_rollup_hdrs": True,
        "deny_delete": True,
        **expiring,
    }


def _window(wanted: Seconds, max_age: Seconds) -> Seconds:
    """JetStream refuses to remember an id longer than its message."""
    return min(wanted, max_age) if max_age else wanted


async def ensure(
    wire: Wire, streams: Sequence[Stream], channels: Sequence[Channel[Any]], replicas: int, within: Seconds
) -> None:
    """Make every stream and bucket as declared; somebody else may be doing it, or be the only one who may.

    Raises:
        PortError: names the stream or bucket, and why not. Unavailable: `within` is over.
    """
    configs = [stream_config(stream, replicas) for stream in streams]
    configs += [bucket_config(channel, replicas) for channel in channels if isinstance(channel, State)]
    for config in configs:
        await again(wire.present, f"make {config['name']}", within, partial(_made, wire, config))


async def _made(wire: Wire, config: dict[str, Any], within: Seconds) -> None:
    """One attempt; Unavailable when it is worth another."""
    name = config["name"]
    answer = await call(wire, inspect_subject(name), None, within)
    if "error" not in answer:
        await _conform(wire, config, answer["config"], within)
        return
    if answer["error"].get("err_code") != NO_STREAM:
        raise refusal(answer, f"look at {name}")
    try:
        answer = await call(wire, create_subject(name), config, within)
    except Denied:
        raise Unavailable(f"{name} does not exist, and this connection may not make it") from None
    if "error" not in answer:
        return
    if answer["error"].get("err_code") == OTHER_CONFIG:
        raise Unavailable(f"{name} was made by somebody else at the same moment")
    raise refusal(answer, f"make {name} (at most {format_bytes(config['max_bytes'])})")


async def _conform(wire: Wire, config: dict[str, Any], current: dict[str, Any], within: Seconds) -> None:
    """Change what stands into what is declared, if it differs."""
    wrong = sorted(key for key, value in config.items() if current.get(key) != value)
    if not wrong:
        return
    attempt = f"change {config['name']} ({', '.join(wrong)})"
    try:
        answer = await call(wire, update_subject(config["name"]), {**current, **config}, within)
    except Denied:
        LOG.warning(
            "bus.ensure: %s differs from the catalogue, and this connection may not %s", config["name"], attempt
        )
        return
    if "error" in answer:
        raise refusal(answer, attempt)
