"""How subjects match, and the names NATS itself gives to what the catalogue declares.

    a.*.c   one token is free          a.>   one or more tokens at the end are free

Both bus adapters and the permission generator build names here, so that none of them can drift.
"""

from __future__ import annotations

from typing import Any, Final

from neap.common.contract.channel import Channel, Events, Ledger, State, Stream, Work
from neap.common.errors import InputError

API: Final = "$JS.API"


def covers(pattern: str, subject: str) -> bool:
    """Whether every subject matched by `subject` (itself a subject or a pattern) is matched by `pattern`."""
    if pattern == subject:
        return True
    mine, theirs = pattern.split("."), subject.split(".")
    for place, wanted in enumerate(mine):
        if wanted == ">":
            return len(theirs) > place
        if place >= len(theirs) or theirs[place] == ">":
            return False
        if wanted not in ("*", theirs[place]):
            return False
    return len(mine) == len(theirs)


def bucket_stream(bucket: str) -> str:
    """The stream behind a KV bucket."""
    return f"KV_{bucket}"


def key_prefix(bucket: str) -> str:
    """What stands before a key in its subject."""
    return f"$KV.{bucket}."


def wire_subject(channel: Channel[Any], subject: str) -> str:
    """The subject on the wire of an Address or Pattern of this channel (a STATE address holds only its key)."""
    return key_prefix(channel.bucket) + subject if isinstance(channel, State) else subject


def bucket_of(channel: Channel[Any]) -> State[Any]:
    """The channel, if it is STATE.

    Raises:
        InputError: it is another word.
    """
    if not isinstance(channel, State):
        raise InputError(f"{channel.pattern} is {channel.delivery}, not STATE: it has no keys")
    return channel


def stream_of(channel: Channel[Any]) -> Stream:
    """The stream that stores this channel's messages.

    Raises:
        InputError: the channel is LATEST or STATE.
    """
    if not isinstance(channel, Events | Ledger | Work):
        raise InputError(f"{channel.pattern} is {channel.delivery}, not EVENTS, LEDGER or WORK: it has no stream")
    return channel.stream


def stored_in(channel: Channel[Any]) -> str:
    """Name of the stream that holds this channel's messages; "" for LATEST."""
    if isinstance(channel, State):
        return bucket_stream(channel.bucket)
    return stream_of(channel).name if isinstance(channel, Events | Ledger | Work) else ""


# -- subjects of the JetStream API -----------------------------------------------------------------------------------


def inspect_subject(stream: str) -> str:
    """Ask for a stream's configuration and state."""
    return f"{API}.STREAM.INFO.{stream}"


def create_subject(stream: str) -> str:
    """Create a stream."""
    return f"{API}.STREAM.CREATE.{stream}"


def update_subject(stream: str) -> str:
    """Change a stream's configuration."""
    return f"{API}.STREAM.UPDATE.{stream}"


def entry_subject(stream: str) -> str:
    """Read one stored message from the leader, by sequence or the next of a subject."""
    return f"{API}.STREAM.MSG.GET.{stream}"


def direct_subject(stream: str, subject: str) -> str:
    """Read the newest message of one subject; the subject is part of the name, so a right can be limited to it."""
    return f"{API}.DIRECT.GET.{stream}.{subject}"


def reader_subject(stream: str, consumer: str, only: str) -> str:
    """Create a consumer with one filter; the filter is part of the name, so a right can be limited to it."""
    return f"{API}.CONSUMER.CREATE.{stream}.{consumer}.{only}"


def pull_subject(stream: str, consumer: str) -> str:
    """Ask a consumer for more."""
    return f"{API}.CONSUMER.MSG.NEXT.{stream}.{consumer}"


def ack_subject(stream: str) -> str:
    """Every acknowledgement of a stream's consumers."""
    return f"$JS.ACK.{stream}.>"


def inbox_prefix(name: str) -> str:
    """A connection's own inbox, so that no other connection can read its replies."""
    return "_INBOX_" + "".join(char if char.isalnum() or char in "-_" else "_" for char in name)
