"""`neap policy` and `neap pause`: read the documents of a cluster, hold new ones against the rooms' rules, write them.

What holds where is computed here from the same documents, by the same function and with the same rules as in the
rooms (`wiring.tunable`). A room's own file or environment is not known here: --config stands for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import yaml

from neap.common.bus.port import Bus, CaughtUp, Received
from neap.common.contract.catalogue import NODES, POLICY, TOPOLOGY
from neap.common.contract.channel import State
from neap.common.errors import InputError, SettingsError
from neap.common.model.policy import (
    MOST_DOCUMENTS,
    Edition,
    Effective,
    PolicyDocument,
    Target,
    Tier,
    flaw,
    pool_of,
)
from neap.common.runtime.launch import find_room
from neap.common.runtime.setting import leaves
from neap.common.runtime.settings import Sources, process_environment
from neap.common.runtime.tuning import Tunable
from neap.common.units import Seconds, parse_duration
from neap.console.core.policies import (
    EVICTOR,
    PAUSE,
    Draft,
    Line,
    a_pause,
    changed,
    edition_of,
    explained,
    listed,
    reached,
    read_drafts,
)
from neap.console.shell.here import installed
from neap.console.shell.reading import open_bus
from neap.console.shell.submitting import cluster_clock

SOURCE: Final = "console"
NOWHERE: Final = Target(node="-")  # of whom documents for services are asked where no node is known
Key = tuple[str, str]  # room, name


@dataclass
class Seen:
    """A cluster's policy, as of one look."""

    at: Seconds
    documents: dict[Key, PolicyDocument] = field(default_factory=dict)
    revisions: dict[Key, int] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)

    def of(self, room: str) -> list[PolicyDocument]:
        """The documents of one room."""
        return [document for (theirs, _), document in sorted(self.documents.items()) if theirs == room]

    def find(self, name: str) -> Key:
        """A document by "room/name", or by its name where only one room has such a one.

        Raises:
            InputError: there is none, or there are several.
        """
        found = [key for key in sorted(self.documents) if name in ("/".join(key), key[1])]
        if len(found) != 1:
            known = ", ".join("/".join(key) for key in (found or sorted(self.documents))) or "none at all"
            raise InputError(f"policy {name!r}: {'which one of' if found else 'not found; there are'} {known}")
        return found[0]


@dataclass(frozen=True)
class Rules:
    """What a room lets policy change, and the settings it would have without."""

    tunable: Tunable[Any]
    default: Any

    def effective(self, documents: Sequence[PolicyDocument], target: Target, at: Seconds) -> Effective:
        """What holds there."""
        return self.tunable.resolve(documents, target, at, self.default)

    def values(self, documents: Sequence[PolicyDocument], target: Target, at: Seconds) -> dict[str, Any]:
        """All settings there, by dotted key."""
        found = self.effective(documents, target, at)
        return flat(self.tunable.fit(found.values, self.default))


async def look(bus: Bus, *, nodes: bool = True) -> Seen:
    """Read what is stored."""
    seen = Seen(at=(await cluster_clock(bus)).now())
    for received in await _stored(bus, POLICY):
        key = received.message.room, received.message.name
        seen.documents[key], seen.revisions[key] = received.message, received.seq
    if nodes:
        objects, machines = await asyncio.gather(_stored(bus, NODES), _stored(bus, TOPOLOGY))
        labels = {each.message.node: each.message.labels for each in objects}
        theirs = {each.message.node: each.message.labels for each in machines}
        for node in sorted(labels.keys() | theirs.keys()):
            pool = pool_of(labels.get(node, {}), theirs.get(node, {}))
            seen.targets[node] = Target(node=node, pool=pool)
    return seen


async def _stored(bus: Bus, channel: State[Any]) -> list[Received[Any]]:
    found = {}
    async with bus.watch(channel.only()) as items:
        async for item in items:
            if isinstance(item, CaughtUp):
                break
            if isinstance(item, Received):
                found[item.subject] = item
            else:
                found.pop(item.subject, None)
    return list(found.values())


def rules_of(room: str, config: Path | None = None) -> Rules:
    """What a room lets policy change.

    Raises:
        SettingsError: there is no such room, or it lets policy change nothing.
    """
    there = find_room(room)
    if there.tunable is None:
        able = ", ".join(name for name in installed() if find_room(name).tunable is not None)
        raise SettingsError(f"{room} takes no policy (these do: {able})")
    sources = Sources(file=config, environment={}, overrides={})
    return Rules(there.tunable(), sources.load(there.settings, room))


def flat(settings: msgspec.Struct) -> dict[str, Any]:
    """Settings by dotted key; an item of a table has a key of its own."""
    told: dict[str, Any] = {}
    for leaf in leaves(type(settings), told=False):
        value: Any = settings
        for name in leaf.key:
            value = getattr(value, name)
        key, value = ".".join(leaf.key), msgspec.to_builtins(value)
        told |= {f"{key}.{item}": one for item, one in value.items()} if leaf.is_table else {key: value}
    return told


def drafts_in(file: Path) -> list[Draft]:
    """The drafts of a YAML or JSON file.

    Raises:
        InputError: names file, place and what is wrong.
    """
    try:
        return read_drafts(yaml.safe_load_all(file.read_text(encoding="utf-8")), str(file))
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file}: not text: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not YAML: {' '.join(str(error).split())}") from None


def with_draft(seen: Seen, draft: Draft, rules: Rules) -> PolicyDocument:
    """The document as it would be with one more edition; `seen` is not changed.

    Raises:
        InputError, SettingsError: it does not hold; names document, key and bound.
    """
    edition = edition_of(draft, author=process_environment().get("USER", ""), at=seen.at)
    if wrong := flaw(edition):
        raise InputError(f"policy {draft.name}: {wrong}")
    rules.tunable.read(draft.name, edition, rules.default)
    before = seen.documents.get((draft.room, draft.name))
    if before is not None:
        return msgspec.structs.replace(before.set(edition), source=SOURCE)
    if len(seen.of(draft.room)) >= MOST_DOCUMENTS:
        raise InputError(f"policy {draft.name}: {draft.room} has {MOST_DOCUMENTS} documents, and takes no more")
    plain = {"at": seen.at, "source": SOURCE, "room": draft.room, "name": draft.name, "editions": [edition]}
    try:
        return msgspec.convert(msgspec.to_builtins(plain), PolicyDocument)
    except msgspec.ValidationError as error:
        raise InputError(f"policy {draft.name[:80]!r}: {error}") from None


async def set_policy(drafts: Sequence[Draft], url: str, config: Path | None) -> list[str]:
    """Write new editions: all of them hold, or none is written.

    Raises:
        InputError, SettingsError: one does not hold; names document, key and bound.
        StaleRevision: somebody else wrote it at the same time.
    """
    async with open_bus(url) as bus:
        seen = await look(bus)
        rules = {draft.room: rules_of(draft.room, config) for draft in drafts}
        after = Seen(seen.at, dict(seen.documents), seen.revisions, seen.targets)
        for draft in drafts:
            after.documents[draft.room, draft.name] = with_draft(after, draft, rules[draft.room])
        said = []
        for key in dict.fromkeys((draft.room, draft.name) for draft in drafts):
            document = after.documents[key]
            _together(document, after, rules[key[0]])
            at = POLICY.at(room=document.room, name=document.name)
            await bus.put(at, document, revision=seen.revisions.get(key, 0))
            said.append(f"{'/'.join(key)} v{document.now.version}, for {document.now.scope}")
        return said


def _together(document: PolicyDocument, after: Seen, rules: Rules) -> None:
    """Refuse what holds alone but not beside the others, on any node."""
    for node in after.targets.values():
        target = _asked(document.now, node)
        for absent in rules.effective(after.of(document.room), target, after.at).refused:
            if (absent.document, absent.version) == (document.name, document.now.version):
                raise InputError(f"policy {document.name}: on {node.node}: {absent.says}")


def _asked(edition: Edition, target: Target) -> Target:
    """A node, or the pods on it that the edition is for."""
    return msgspec.structs.replace(target, service=edition.selector) if edition.tier is Tier.SERVICE else target


async def diff_policy(drafts: Sequence[Draft], url: str, config: Path | None) -> list[str]:
    """What the documents would be instead of what they are, and what would then really change, where.

    Raises:
        InputError, SettingsError: one does not hold; names document, key and bound.
    """
    async with open_bus(url) as bus:
        seen = await look(bus)
    told = []
    for draft in drafts:
        rules, old = rules_of(draft.room, config), seen.documents.get((draft.room, draft.name))
        new = with_draft(seen, draft, rules)
        after = [*(each for each in seen.of(draft.room) if each.name != draft.name), new]
        targets = {node: _asked(new.now, target) for node, target in seen.targets.items()}
        told.append(f"{draft.room}/{draft.name}: {f'v{old.now.version}' if old else 'new'} → v{new.now.version}")
        told += changed(old.now if old else None, new.now)
        told += reached(
            {node: rules.values(seen.of(draft.room), target, seen.at) for node, target in targets.items()},
            {node: rules.values(after, target, seen.at) for node, target in targets.items()},
        )
    return told


async def explain_policy(node: str, key: str, url: str, *, service: str, config: Path | None, as_json: bool) -> str:
    """Every setting of one node (or only `key`): its value, which tier won, whom it beat.

    Raises:
        InputError: no such node, or no such key.
    """
    async with open_bus(url) as bus:
        seen = await look(bus)
    if node not in seen.targets:
        raise InputError(f"node {node!r}: nobody has heard of it ({len(seen.targets)} nodes are known)")
    target = msgspec.structs.replace(seen.targets[node], service=service)
    lines: list[Line] = []
    effective: dict[str, Effective] = {}
    for room in [name for name in installed() if find_room(name).tunable is not None]:
        rules = rules_of(room, config)
        found = effective[room] = rules.effective(seen.of(room), target, seen.at)
        defaults, values = flat(rules.default), flat(rules.tunable.fit(found.values, rules.default))
        for name, value in values.items():
            if name != "node":
                line = Line(
                    key=f"{room}.{name}",
                    value=value,
                    default=defaults.get(name),
                    provenance=found.provenance.get(name),
                )
                lines.append(line)
    if key:
        lines = [line for line in lines if line.key == key or line.key.partition(".")[2] == key]
        if not lines:
            raise InputError(f"{key!r} is no setting that policy may change (`neap policy explain {node}` lists them)")
        effective = {room: found for room, found in effective.items() if lines[0].key.startswith(f"{room}.")}
    if as_json:
        told = {"node": target, "settings": lines, "without_effect": {r: f.absent for r, f in effective.items()}}
        return msgspec.json.format(msgspec.json.encode(told)).decode()
    return explained(lines, effective)


async def list_policy(url: str, *, as_json: bool) -> str:
    """All documents."""
    async with open_bus(url) as bus:
        seen = await look(bus, nodes=False)
    documents = [document for _, document in sorted(seen.documents.items())]
    return msgspec.json.format(msgspec.json.encode(documents)).decode() if as_json else listed(documents, seen.at)


async def roll_back(name: str, url: str) -> list[str]:
    """Take back the newest edition of a document.

    Raises:
        InputError: there is no such document.
        StaleRevision: somebody else wrote it at the same time.
    """
    async with open_bus(url) as bus:
        seen = await look(bus, nodes=False)
        key = seen.find(name)
        document, at = seen.documents[key], POLICY.at(room=key[0], name=key[1])
        before = document.rolled_back(seen.at)
        title = "/".join(key)
        if before is None:
            await bus.delete(at)
            return [f"{title}: v{document.now.version} was the only one, and is gone"]
        await bus.put(at, before, revision=seen.revisions[key])
        told = f"{title}: v{document.now.version} is taken back, v{before.now.version} is in force again"
        return [told, *changed(document.now, before.now)]


async def remove(names: Sequence[str], url: str) -> list[str]:
    """Take documents away, with all that they ever said.

    Raises:
        InputError: there is no such document.
    """
    async with open_bus(url) as bus:
        seen = await look(bus, nodes=False)
        keys = [seen.find(name) for name in names]
        for room, name in keys:
            await bus.delete(POLICY.at(room=room, name=name))
    return [f"{room}/{name} is gone" for room, name in keys]


async def pause_evictions(lasts: str, reason: str, tier: str, url: str) -> list[str]:
    """Nobody is evicted there for so long; it ends by itself.

    Raises:
        InputError: not a duration, or no such tier.
    """
    if not reason.strip():
        raise InputError("--reason: say why; whoever looks for a missing eviction will find it")
    seconds = parse_duration(lasts)
    async with open_bus(url) as bus:
        now = (await cluster_clock(bus)).now()
    said = await set_policy([a_pause(tier, now + seconds, reason)], url, None)
    return [f"{line}: evictions are paused for {lasts} ({reason})" for line in said]


async def lift_pause(url: str) -> list[str]:
    """End every pause now."""
    async with open_bus(url) as bus:
        seen = await look(bus, nodes=False)
    names = ["/".join(key) for key in sorted(seen.documents) if key[0] == EVICTOR and key[1].startswith(PAUSE)]
    return await remove(names, url) if names else ["nothing was paused"]
