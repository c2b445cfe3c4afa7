"""Who owns which field of an object: server-side apply, as an API server does it.

A field is a path of names; an item of a keyed list is the step `(field's keys, its values)`. Leaves are owned: scalars,
lists that are one value, empty maps, and keyed items as such. Whoever writes a field otherwise than by apply owns it
from then on, alone if the value changed.
Source: Kubernetes documentation, "Server-Side Apply".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from neap.common.errors import Conflict
from neap.common.kube.memory_patch import identity, keys_of

Item: TypeAlias = tuple[tuple[str, ...], tuple[Any, ...]]
Path: TypeAlias = tuple["str | Item", ...]
Owners: TypeAlias = Mapping["Owner", frozenset[Path]]

NOBODYS: Final = frozenset({
    ("apiVersion",), ("kind",), *(("metadata", name) for name in (
        "name", "namespace", "uid", "resourceVersion", "generation", "creationTimestamp", "managedFields",
        "deletionTimestamp", "deletionGracePeriodSeconds", "generateName",
    )),
})  # fmt: skip
MISSING: Final = object()


@dataclass(frozen=True, order=True)
class Owner:
    """A manager, by the way it writes and where."""

    manager: str
    applies: bool
    subresource: str = ""


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every field that can be owned, with its value."""
    if path in NOBODYS:
        return
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from leaves(each, (*path, name))
    elif isinstance(value, list) and value and path and (keys := keys_of(str(path[-1]), value)):
        for item in value:
            step: Path = (*path, (keys, identity(item, keys)))
            yield step, None  # that it is there is a field of its own, its keys are not
            for name, each in item.items():
                if name not in keys:
                    yield from leaves(each, (*step, name))
    elif path:
        yield path, value


def changed_by(before: Owners, owner: Owner, old: Any, new: Any) -> Owners:
    """The owners after a write that is no apply: what changed is the writer's alone, what is gone is nobody's."""
    was, now = dict(leaves(old)), dict(leaves(new))
    mine = {path for path, value in now.items() if path not in was or was[path] != value}
    after = {
        who: frozenset(path for path in owned if path in now and path not in mine) for who, owned in before.items()
    }
    after[owner] = after.get(owner, frozenset()) | mine
    return {who: owned for who, owned in after.items() if owned}


def applied(current: Any, body: Any, before: Owners, owner: Owner, *, force: bool) -> tuple[Any, Owners]:
    """The object and its owners after an apply.

    Raises:
        Conflict: others own fields of `body` with other values, and it is not forced.
    """
    wanted, now = dict(leaves(body)), dict(leaves(current))
    differing = {path for path, value in wanted.items() if now.get(path, MISSING) != value}
    against = sorted(
        (who.manager, _spelled(path)) for who, owned in before.items() for path in owned & differing if who != owner
    )
    if against and not force:
        raise Conflict("; ".join(f"{path} is {who}'s" for who, path in against))
    others = frozenset().union(*(owned for who, owned in before.items() if who != owner)) if before else frozenset()
    result = current
    left_out = (before.get(owner, frozenset()) - wanted.keys() - others) & now.keys()  # a map that filled up stays
    for path in sorted(left_out, key=len, reverse=True):
        result = _removed(result, path)
    result = _laid_over(result, body)
    there = {path for path, _ in leaves(result)}
    after = {who: (owned - differing) & there for who, owned in before.items() if who != owner}
    return result, {who: owned for who, owned in {**after, owner: frozenset(wanted)}.items() if owned}


def _spelled(path: Path) -> str:
    steps = (f".{step}" if isinstance(step, str) else f"[{','.join(map(str, step[1]))}]" for step in path)
    return "".join(steps)


def _laid_over(target: Any, body: Any, field: str = "") -> Any:
    """As a merge, but a null is a value, and keyed lists merge."""
    if isinstance(body, list) and (keys := keys_of(field, body)):
        found = {identity(item, keys): item for item in (target if isinstance(target, list) else [])}
        for item in body:
            found[identity(item, keys)] = _laid_over(found.get(identity(item, keys)), item)
        return list(found.values())
    if not isinstance(body, dict):
        return body
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in body.items():
        result[name] = _laid_over(result.get(name), value, name)
    return result


def _removed(target: Any, path: Sequence[Any]) -> Any:
    """Without one field; a map or list that is empty then goes too, and an item goes with all that others have in it."""
    first, *rest = path
    if isinstance(first, tuple):
        keys, who = first
        items = target if isinstance(target, list) else []
        if rest:
            return [_removed(item, rest) if identity(item, keys) == who else item for item in items]
        return [item for item in items if identity(item, keys) != who]
    if not isinstance(target, dict) or first not in target:
        return target
    below = _removed(target[first], rest) if rest else None
    if rest and below not in ({}, []):
        return {**target, first: below}
    return {name: value for name, value in target.items() if name != first}
