"""Patches of JSON objects as an API server understands them: merge (RFC 7386), JSON (RFC 6902), strategic merge.

Also which lists are maps in disguise: their items are told apart by keys. All others are one value. Objects are never
changed in place; what did not change is shared with the result.
Source: Kubernetes API reference 1.35 (x-kubernetes-list-map-keys).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from neap.common.errors import Rejected

KEYED: Final[Mapping[str, tuple[str, ...]]] = {
    "conditions": ("type",), "addresses": ("type",), "containers": ("name",), "initContainers": ("name",),
    "ephemeralContainers": ("name",), "ownerReferences": ("uid",), "volumes": ("name",), "env": ("name",),
    "volumeMounts": ("mountPath",), "ports": ("containerPort", "protocol"), "schedulingGates": ("name",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"), "resourceClaims": ("name",),
}  # fmt: skip
DEFAULTS: Final[Mapping[str, str]] = {"protocol": "TCP"}  # of keys that may be left out
DELETE: Final = "$patch"


def keys_of(field: str, items: Any) -> tuple[str, ...]:
    """By what the items of this list are told apart; empty if it is one value."""
    keys = KEYED.get(field, ())
    if keys and isinstance(items, list) and all(isinstance(item, dict) and keys[0] in item for item in items):
        return keys
    return ()


def identity(item: Mapping[str, Any], keys: Sequence[str]) -> tuple[Any, ...]:
    """Which item of a keyed list this is."""
    return tuple(item.get(key, DEFAULTS.get(key)) for key in keys)


def merge(target: Any, patch: Any) -> Any:
    """RFC 7386: maps merge, null removes, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def strategic(target: Any, patch: Any, field: str = "") -> Any:
    """As `merge`, and keyed lists merge item by item; `$patch: delete` in an item removes it, `replace` in a map replaces."""
    if isinstance(patch, list) and (keys := keys_of(field, patch)):
        return _strategic_list(target if isinstance(target, list) else [], patch, keys)
    if not isinstance(patch, dict):
        return patch
    if patch.get(DELETE) == "replace":
        return {name: value for name, value in patch.items() if name != DELETE}
    result = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif not name.startswith("$"):
            result[name] = strategic(result.get(name), value, name)
    return result


def _strategic_list(target: list[Any], patch: list[Any], keys: Sequence[str]) -> list[Any]:
    found = {identity(item, keys): item for item in target}
    for item in patch:
        who = identity(item, keys)
        if item.get(DELETE) == "delete":
            found.pop(who, None)
        else:
            found[who] = strategic(found.get(who), item)
    return list(found.values())


def json_patch(target: Any, steps: Any) -> Any:
    """RFC 6902, step by step.

    Raises:
        Rejected: a step does not hold; none is taken then.
    """
    if not isinstance(steps, list):
        raise Rejected("a JSON patch is a list of steps")
    for step in steps:
        if not isinstance(step, dict) or not isinstance(step.get("path"), str):
            raise Rejected(f"no step of a JSON patch: {step}")
        target = _step(target, step)
    return target


def _step(target: Any, step: Mapping[str, Any]) -> Any:
    path = _path(step["path"])
    match step.get("op"):
        case "add":
            return _put(target, path, step.get("value"), add=True)
        case "replace":
            _at(target, path)
            return _put(target, path, step.get("value"), add=False)
        case "remove":
            _at(target, path)
            return _without(target, path)
        case "test":
            if _at(target, path) != step.get("value"):
                raise Rejected(f"the test of {step['path']} failed")
            return target
        case "copy" | "move" as word:
            origin = _path(str(step.get("from", "")))
            value = _at(target, origin)
            return _put(_without(target, origin) if word == "move" else target, path, value, add=True)
        case word:
            raise Rejected(f"a JSON patch knows no {word}")


def _path(text: str) -> list[str]:
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _at(target: Any, path: Sequence[str]) -> Any:
    for part in path:
        try:
            target = target[int(part)] if isinstance(target, list) else target[part]
        except (KeyError, IndexError, ValueError, TypeError):
            raise Rejected(f"there is no /{'/'.join(path)}") from None
    return target


def _put(target: Any, path: Sequence[str], value: Any, *, add: bool) -> Any:
    if not path:
        return value
    first, *rest = path
    if isinstance(target, list):
        index = len(target) if first == "-" else _index(target, first, add=add and not rest)
        if rest:
            return [*target[:index], _put(target[index], rest, value, add=add), *target[index + 1 :]]
        return [*target[:index], value, *target[index + (0 if add else 1) :]]
    if not isinstance(target, dict) or (rest and first not in target):
        raise Rejected(f"there is no /{'/'.join(path)}")
    return {**target, first: _put(target.get(first), rest, value, add=add)}


def _index(target: list[Any], part: str, *, add: bool) -> int:
    if not part.isdecimal() or int(part) > len(target) - (0 if add else 1):
        raise Rejected(f"there is no item {part}")
    return int(part)


def _without(target: Any, path: Sequence[str]) -> Any:
    if not path:
        return None
    first, *rest = path
    if isinstance(target, list):
        index = int(first)
        return [*target[:index], *([_without(target[index], rest)] if rest else []), *target[index + 1 :]]
    if rest:
        return {**target, first: _without(target[first], rest)}
    return {name: value for name, value in target.items() if name != first}
