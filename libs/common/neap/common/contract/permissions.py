"""What each service may publish and hear on NATS: derived from the catalogue, and from what the bus adapter does.

    LATEST  said: its subject                     heard: subscribe its subject
    STATE   said: its key, and reading it         heard: reading the key, and readers filtered to it
    EVENTS  said: its subject                     heard: readers filtered to it, and acknowledging
    LEDGER  said: its subject, reading the stream heard: readers filtered to it
    WORK    said: its subject                     heard: readers filtered to it, and acknowledging

A service of a node has its node's name where the pattern says {node}; a central one has `*`. What cannot be
limited by NATS is said in docs/subjects.md, which prints these lists.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from neap.common.contract.catalogue import CHANNELS, ENDPOINTS, SERVICES, STREAMS
from neap.common.contract.channel import Channel, Delivery, Endpoint, State, escape
from neap.common.contract.subject import (
    ack_subject,
    bucket_stream,
    covers,
    create_subject,
    direct_subject,
    entry_subject,
    inbox_prefix,
    inspect_subject,
    pull_subject,
    reader_subject,
    stored_in,
    update_subject,
    wire_subject,
)
from neap.common.errors import InputError

NODE_SERVICES: Final = frozenset({"reporter", "advisor", "enforcer", "evictor", "gpushare"})
MAKERS: Final = frozenset(SERVICES) - NODE_SERVICES  # may create and change streams and buckets


@dataclass(frozen=True)
class Rights:
    """Two lists of subject patterns; a responder may also publish one reply per request."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    responds: bool = False
    _known: dict[tuple[bool, str], bool] = field(default_factory=dict, repr=False, compare=False)

    def may_publish(self, subject: str) -> bool:
        """Whether this subject may be published."""
        return self._may(subject, sends=True)

    def may_subscribe(self, subject: str) -> bool:
        """Whether everything this pattern matches may be heard."""
        return self._may(subject, sends=False)

    def _may(self, subject: str, *, sends: bool) -> bool:
        verdict = self._known.get((sends, subject))
        if verdict is None:
            verdict = any(covers(pattern, subject) for pattern in (self.publish if sends else self.subscribe))
            self._known[sends, subject] = verdict
        return verdict


def connection_name(service: str, node: str = "") -> str:
    """The name a process connects under; its inbox follows from it."""
    return f"neap-{service}@{node}" if node else f"neap-{service}"


def rights(services: Sequence[str], node: str = "", *, name: str = "") -> Rights:
    """What a process that hosts these services may do; `name` is its connection's, if not the default one.

    Raises:
        InputError: a service is not in the catalogue.
    """
    unknown = sorted(set(services) - set(SERVICES))
    if unknown or not services:
        raise InputError(f"unknown services {unknown}; the catalogue has {', '.join(SERVICES)}")
    publish: set[str] = set()
    subscribe = {f"{inbox_prefix(name or connection_name(services[0], node))}.>"}
    for service in services:
        publish |= {inspect_subject("*")}
        if service in MAKERS:
            publish |= set(_making())
        for channel in CHANNELS:
            subject = _scoped(channel, service, node)
            if service in channel.says:
                publish |= set(_saying(channel, subject))
            if service in channel.hears:
                publish |= set(_reading(channel, subject))
                subscribe |= {subject} if channel.delivery is Delivery.LATEST else set()
        publish |= {_asked(endpoint, service, node) for endpoint in ENDPOINTS if service in endpoint.asks}
        subscribe |= {_asked(endpoint, service, node) for endpoint in ENDPOINTS if service == endpoint.serves}
    responds = any(endpoint.serves in services for endpoint in ENDPOINTS)
    return Rights(_minimal(publish), _minimal(subscribe), responds)


def _scoped(channel: Channel[Any], service: str, node: str) -> str:
    """The channel's subject for this service: its own node, its own policy, its own memory."""
    tokens = {}
    if service in NODE_SERVICES and node and "node" in channel.fields:
        tokens["node"] = node
    if "room" in channel.fields and (service in NODE_SERVICES or service not in channel.says):
        tokens["room"] = service  # whom a policy is for, its reader finds out
    return wire_subject(channel, channel.only(**tokens).subject)


def _saying(channel: Channel[Any], subject: str) -> Iterable[str]:
    yield subject
    if isinstance(channel, State):
        yield direct_subject(bucket_stream(channel.bucket), subject)
    if channel.delivery is Delivery.LEDGER:
        yield entry_subject(stored_in(channel))


def _reading(channel: Channel[Any], subject: str) -> Iterable[str]:
    stream = stored_in(channel)
    if not stream:
        return
    yield reader_subject(stream, "*", subject)
    yield pull_subject(stream, "*")
    if isinstance(channel, State):
        yield direct_subject(stream, subject)
    if channel.delivery in (Delivery.EVENTS, Delivery.WORK):
        yield ack_subject(stream)


def _making() -> Iterable[str]:
    names = [stream.name for stream in STREAMS]
    names += [bucket_stream(channel.bucket) for channel in CHANNELS if isinstance(channel, State)]
    for name in names:
        yield create_subject(name)
        yield update_subject(name)


def _asked(endpoint: Endpoint[Any, Any], service: str, node: str) -> str:
    """The endpoint's subject for this service: its own node."""
    pattern = (
        endpoint.pattern.replace("{node}", escape(node)) if service in NODE_SERVICES and node else endpoint.pattern
    )
    return ".".join("*" if token.startswith("{") else token for token in pattern.split("."))


def _minimal(patterns: Iterable[str]) -> tuple[str, ...]:
    """Sorted, without what another pattern covers."""
    every = sorted(patterns)
    return tuple(one for one in every if not any(one != other and covers(other, one) for other in every))


@dataclass(frozen=True)
class User:
    """One line of a server's authorization: a password, or better the public half of an nkey.

    An nkey that begins with $ is a variable of the server's environment.
    """

    name: str
    rights: Rights
    password: str = ""
    nkey: str = ""


def authorization(users: Sequence[User]) -> str:
    """The `authorization` block of a nats-server configuration."""
    lines = ["authorization {", "  users: ["]
    for user in users:
        key = user.nkey if user.nkey.startswith("$") else f'"{user.nkey}"'
        who = f"nkey: {key}" if user.nkey else f'user: "{user.name}", password: "{user.password}"'
        replies = ", allow_responses: {max: 1, expires: 5s}" if user.rights.responds else ""
        lines += [
            f"    {{ {who}, permissions: {{",
            f"        publish: {{ allow: [{_quoted(user.rights.publish)}] }}",
            f"        subscribe: {{ allow: [{_quoted(user.rights.subscribe)}] }}{replies}",
            "    } }",
        ]
    return "\n".join([*lines, "  ]", "}", ""])


def _quoted(subjects: Sequence[str]) -> str:
    return ", ".join(f'"{subject}"' for subject in subjects)
