"""Write what follows from the catalogue: docs/subjects.md and docs/schema/*.json; print a server's permissions.

python -m neap.common.contract.generate                    write the files (below the current directory)
python -m neap.common.contract.generate --check            exit 1 if a file differs from the catalogue
python -m neap.common.contract.generate --authorization advisor@n1=UABC... scheduler=UDEF...
a nats-server `authorization` block, users by nkey
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from neap.common.contract import catalogue
from neap.common.contract.catalogue import CHANNELS, ENDPOINTS, SERVICES, STREAMS
from neap.common.contract.channel import Channel, Endpoint, Events, Ledger, State, Work
from neap.common.contract.permissions import MAKERS, NODE_SERVICES, User, authorization, connection_name, rights
from neap.common.contract.subject import wire_subject
from neap.common.errors import InputError
from neap.common.units import format_bytes, format_duration

PAGE: Final = Path("docs/subjects.md")
SCHEMAS: Final = Path("docs/schema")
INTRODUCTION: Final = """# Subjects

Generated from `neap.common.contract.catalogue`; do not edit. Write it anew with `make generate`.

| word | NATS | means |
|---|---|---|
| `LATEST` | core publish | newest wins, loss allowed |
| `STATE` | KV bucket | one value per key, revision-checked |
| `EVENTS` | JetStream | at least once, dedupe by id, durable pull |
| `LEDGER` | JetStream | append refused unless the expected last sequence of the subject matches |
| `WORK` | JetStream work queue | acked once done |

A `.` inside a token is written `_`. Payloads are JSON (`docs/schema/`), additive change only inside `v1`. Headers:
`traceparent` (W3C) wherever a trace is known, `Nats-Msg-Id` on everything stored under an id.
"""
RIGHTS_NOTE: Final = """## Permissions

What each service may publish and subscribe, with `n1` standing for its node. A test starts a server with these
lists and proves that every allowed verb works and a neighbour's fails.

What NATS cannot limit, and what therefore is granted wider than it is used:

- A consumer's name is one token of the API subject and cannot be limited by prefix. Whoever may read a stream may
  pull from any consumer of that stream whose name it knows, so it could take another service's deliveries; it cannot
  make a consumer with a wider filter than its own. Readers use random names.
- `$JS.ACK.<stream>.>` lets a consumer of a stream acknowledge for the others of that stream.
- `$JS.API.STREAM.INFO.*` shows names, limits and counts of every stream, no messages.
- `$JS.API.STREAM.MSG.GET` reads any entry of the ledger; it is given to those who may append there.
- Services that are not on a node may create and change streams; services on a node may not, and wait for them.
"""


def names() -> dict[int, str]:
    """The catalogue's name of each channel and endpoint, by identity."""
    return {id(value): name for name, value in vars(catalogue).items() if isinstance(value, Channel | Endpoint)}


def page() -> str:
    """docs/subjects.md."""
    named = names()
    lines = [
        INTRODUCTION,
        "## Overview\n",
        "| channel | word | subject or key | says | hears |",
        "|---|---|---|---|---|",
    ]
    for channel in CHANNELS:
        name, where = named[id(channel)], wire_subject(channel, channel.pattern)
        link = f"[{name}](#{name.lower()})"
        row = (link, f"`{channel.delivery}`", f"`{where}`", ", ".join(channel.says), ", ".join(channel.hears))
        lines.append(f"| {' | '.join(row)} |")
    for endpoint in ENDPOINTS:
        name = named[id(endpoint)]
        row = (
            f"[{name}](#{name.lower()})",
            "request",
            f"`{endpoint.pattern}`",
            ", ".join(endpoint.asks),
            endpoint.serves,
        )
        lines.append(f"| {' | '.join(row)} |")
    lines += [
        "",
        "## Streams\n",
        "| stream | word | subjects | kept | at most | per subject |",
        "|---|---|---|---|---|---|",
    ]
    for stream in STREAMS:
        kept = format_duration(stream.max_age) if stream.max_age else "for ever"
        each = str(stream.max_per_subject) if stream.max_per_subject > 0 else "no limit"
        subjects = ", ".join(f"`{subject}`" for subject in stream.subjects)
        lines.append(
            f"| `{stream.name}` | `{stream.delivery}` | {subjects} | {kept} | {format_bytes(stream.max_bytes)} | {each} |"
        )
    for channel in CHANNELS:
        lines += ["", *_chapter(channel, named[id(channel)])]
    for endpoint in ENDPOINTS:
        lines += ["", *_question(endpoint, named[id(endpoint)])]
    return "\n".join([*lines, "", RIGHTS_NOTE, *_permissions()]) + "\n"


def _chapter(channel: Channel[Any], name: str) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"{channel.doc}\n"
    yield f"`{channel.delivery}` on `{wire_subject(channel, channel.pattern)}`, {_storage(channel)}."
    yield f"Says: {', '.join(channel.says)}. Hears: {', '.join(channel.hears)}."
    yield f"Schema: [{name.lower()}.json](schema/{name.lower()}.json).\n"
    yield from _fields(channel.message)


def _storage(channel: Channel[Any]) -> str:
    match channel:
        case State(bucket=bucket, ttl=ttl):
            return f"bucket `{bucket}`" + (f", a key vanishes after {format_duration(ttl)}" if ttl else "")
        case Events(stream=stream) | Ledger(stream=stream) | Work(stream=stream):
            return f"stream `{stream.name}`"
    return "not stored"


def _question(endpoint: Endpoint[Any, Any], name: str) -> Iterator[str]:
    yield f"## {name}\n"
    yield f"{endpoint.doc}\n"
    yield f"Request on `{endpoint.pattern}`, answered by {endpoint.serves} within {endpoint.timeout:g} s."
    yield f"Asks: {', '.join(endpoint.asks)}. Schema: [{name.lower()}.json](schema/{name.lower()}.json).\n"
    yield from _fields(endpoint.request)
    yield ""
    yield from _fields(endpoint.reply)


def _fields(message: Any) -> Iterator[str]:
    """The fields of a message; one table per member of a union."""
    kinds = getattr(message, "__args__", ()) if not hasattr(message, "__struct_fields__") else (message,)
    for kind in kinds:
        if not hasattr(kind, "__struct_fields__"):
            continue
        tag = f" (`type: {kind.__struct_config__.tag}`)" if kind.__struct_config__.tag else ""
        yield f"**{kind.__name__}**{tag}: {(kind.__doc__ or '').strip().splitlines()[0]}\n"
        yield "| field | type | default |"
        yield "|---|---|---|"
        for field in msgspec.structs.fields(kind):
            default = "" if field.required else f"`{msgspec.json.encode(_default(field)).decode()}`"
            yield f"| `{field.encode_name}` | `{_type_name(field.type)}` | {default} |"
        yield ""


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default_factory() if field.default is msgspec.NODEFAULT else field.default


def _type_name(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    for prefix in ("typing.", "neap.common.model."):
        text = text.replace(prefix, "")
    return ".".join(text.split(".")[-1:]) if "[" not in text and "|" not in text else _short(text)


def _short(text: str) -> str:
    """`tuple[usage.NumaUsage, ...] | None` -> `tuple[NumaUsage, ...] or None`, which a Markdown table can hold."""
    words = text.replace("[", " [ ").replace("]", " ] ").replace(",", " , ").split()
    plain = [word if word == "..." else word.rpartition(".")[2] for word in words]
    return " ".join(plain).replace(" [ ", "[").replace(" ]", "]").replace(" , ", ", ").replace("|", "or")


def _permissions() -> Iterator[str]:
    for service in SERVICES:
        node = "n1" if service in NODE_SERVICES else ""
        granted = rights([service], node)
        yield f"### {service}\n"
        yield f"Connects as `{connection_name(service, node)}`" + (
            "; may create and change streams.\n" if service in MAKERS else ".\n"
        )
        shown = [
            subject
            for subject in granted.publish
            if ".STREAM.CREATE." not in subject and ".STREAM.UPDATE." not in subject
        ]
        yield "- publish: " + ", ".join(f"`{subject}`" for subject in shown)
        yield "- subscribe: " + ", ".join(f"`{subject}`" for subject in granted.subscribe)
        if granted.responds:
            yield "- one reply to each request it serves"
        yield ""


def schemas() -> dict[Path, str]:
    """docs/schema: one file per channel and endpoint."""
    named = names()
    found: dict[Path, Any] = {}
    for channel in CHANNELS:
        schema = msgspec.json.schema(channel.message)
        found[SCHEMAS / f"{named[id(channel)].lower()}.json"] = {
            "$schema": "https://json-schema.org/draft/2020-12/schema", "description": channel.doc, **schema
        }  # fmt: skip
    for endpoint in ENDPOINTS:
        found[SCHEMAS / f"{named[id(endpoint)].lower()}.json"] = {
            "description": endpoint.doc,
            "request": msgspec.json.schema(endpoint.request),
            "reply": msgspec.json.schema(endpoint.reply),
        }
    return {
        path: msgspec.json.format(msgspec.json.encode(schema), indent=2).decode() + "\n"
        for path, schema in found.items()
    }


def files() -> dict[Path, str]:
    """Everything that is generated, by path below the repository."""
    return {PAGE: page(), **schemas()}


def stale(root: Path) -> list[str]:
    """What is missing, different, or no longer in the catalogue."""
    wanted = files()
    wrong = [str(path) for path, text in wanted.items() if not _holds(root / path, text)]
    left = sorted((root / SCHEMAS).glob("*.json"))
    return wrong + [str(path.relative_to(root)) for path in left if path.relative_to(root) not in wanted]


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def write(root: Path) -> None:
    """Write every file, and remove schemas of channels that are gone."""
    wanted = files()
    for path, text in wanted.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    for path in (root / SCHEMAS).glob("*.json"):
        if path.relative_to(root) not in wanted:
            path.unlink()


def parse_user(text: str) -> User:
    """`advisor@n1=UABC...`: services with `+` between them, the node they are on, and the public nkey.

    Raises:
        InputError: it does not look like that, or a service is unknown.
    """
    who, equals, nkey = text.partition("=")
    services, _, node = who.partition("@")
    if not equals or not nkey.startswith("U"):
        raise InputError(f"not a user: {text!r} (example: advisor+evictor@n1=UABC...)")
    return User(who, rights(services.split("+"), node), nkey=nkey)


def main(argv: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="generate", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 if a file differs")
    parser.add_argument("--root", type=Path, default=Path(), help="the repository (default: here)")
    parser.add_argument(
        "--authorization", nargs="+", metavar="SERVICE[@NODE]=NKEY", help="print this and write nothing"
    )
    asked = parser.parse_args(argv)
    if asked.authorization:
        try:
            sys.stdout.write(authorization([parse_user(text) for text in asked.authorization]))
        except InputError as error:
            parser.error(str(error))
        return 0
    if not asked.check:
        write(asked.root)
        return 0
    wrong = stale(asked.root)
    for path in wrong:
        sys.stderr.write(f"{path} differs from the catalogue; run `make generate`\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
