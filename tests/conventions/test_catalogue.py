"""The wire's own rules: grammar of subjects, frozen messages, no accidental overlap."""

from __future__ import annotations

import itertools
import re
from typing import Any, get_args

import msgspec
import pytest

from neap.common.contract.catalogue import CHANNELS, ENDPOINTS, SERVICES, STREAMS
from neap.common.contract.channel import Channel, Delivery, State, escape, unescape
from neap.common.errors import InputError

SUBJECT = re.compile(r"neap\.v1(\.([a-z0-9-]+|\{[a-z]+\})){1,5}")


def structs(message: Any) -> list[type[msgspec.Struct]]:
    return [
        kind
        for kind in (get_args(message) or (message,))
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct)
    ]


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.pattern)
def test_subjects_follow_the_grammar(channel: Channel[Any]) -> None:
    if isinstance(channel, State):
        assert re.fullmatch(r"neap-[a-z]+", channel.bucket)
        assert re.fullmatch(r"\{[a-z]+\}(\.\{[a-z]+\})*", channel.pattern)
    else:
        assert SUBJECT.fullmatch(channel.pattern)


@pytest.mark.parametrize("channel", CHANNELS, ids=lambda c: c.pattern)
def test_messages_are_frozen_and_say_when_and_who(channel: Channel[Any]) -> None:
    for kind in structs(channel.message):
        assert kind.__struct_config__.frozen
        assert {"at", "source"} <= set(kind.__struct_fields__)


def test_no_two_channels_share_a_subject() -> None:
    subjects = [c.pattern for c in CHANNELS if not isinstance(c, State)] + [e.pattern for e in ENDPOINTS]
    for left, right in itertools.combinations(subjects, 2):
        mine, theirs = left.split("."), right.split(".")
        overlap = len(mine) == len(theirs) and all(
            a == b or a.startswith("{") or b.startswith("{") for a, b in zip(mine, theirs, strict=True)
        )
        assert not overlap, f"{left} and {right}"


def test_every_stored_channel_lies_in_a_bounded_stream_of_its_word() -> None:
    for stream in STREAMS:
        assert stream.max_bytes > 0
        assert stream.max_age > 0 or stream.max_per_subject > 0
    for channel in CHANNELS:
        stream = getattr(channel, "stream", None)
        if channel.delivery in {Delivery.EVENTS, Delivery.LEDGER, Delivery.WORK}:
            assert stream in STREAMS
            assert stream.delivery == channel.delivery


def test_rights_name_known_services_and_every_channel_has_both_ends() -> None:
    for channel in CHANNELS:
        assert set(channel.says) <= set(SERVICES)
        assert set(channel.hears) <= set(SERVICES)
        assert channel.says
        assert channel.hears
        assert channel.doc.endswith(".")


def test_names_with_dots_survive_the_subject() -> None:
    assert unescape(escape("node-1.rack-2.example")) == "node-1.rack-2.example"
    for bad in ("", "a b", "a*", ">", "a_b", "x" * 200, "a/b"):
        with pytest.raises(InputError):
            escape(bad)
