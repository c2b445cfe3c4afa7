"""From Structs to CustomResourceDefinitions: what an API server checks, says in `kubectl explain`, and prints.

    Struct                      object with its fields; those without a default are required
    Meta(ge, le, pattern ...)   minimum, maximum, pattern, minLength ... minItems, minProperties
    enum, Literal               enum
    str | int                   x-kubernetes-int-or-string, as quantities are written
    dict[str, X]                additionalProperties; of Any: kept as it is (x-kubernetes-preserve-unknown-fields)
    X | None                    X, not required
    default of a plain value    default
    RULES                       x-kubernetes-validations (CEL)
    docstring, comments         description

A Struct inside itself cannot be told in a structural schema: its second level is kept as it is.
Source: Kubernetes, CustomResourceDefinition v1 (structural schemas).
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec
import msgspec.inspect as types
import yaml

from neap.common.kube import katalyst, own
from neap.common.kube.definition import MAP_BY, Column, Definition
from neap.common.kube.described import described

DEFINITIONS: Final = (*own.DEFINITIONS, *katalyst.DEFINITIONS)
CATEGORY: Final = "neap"
KEPT: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
ANYTHING: Final = {"x-kubernetes-preserve-unknown-fields": True}
NOTE: Final = "# Generated from {where}; do not edit. Write it anew with `make generate`.\n"
_BOUNDS: Final = {"ge": "minimum", "gt": "minimum", "le": "maximum", "lt": "maximum"}
_LENGTHS: Final = {
    types.StrType: ("minLength", "maxLength"),
    types.VarTupleType: ("minItems", "maxItems"),
    types.DictType: ("minProperties", "maxProperties"),
}


def definition(one: Definition) -> dict[str, Any]:
    """The CustomResourceDefinition of a kind."""
    kind = one.kind
    version: dict[str, Any] = {
        "name": kind.version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema(kind.model, one.doc)},
        "additionalPrinterColumns": [_column(column) for column in one.columns],
    }
    if one.status:
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": str(kind), "labels": {"app.kubernetes.io/component": "crd"}},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": list(one.short),
                "categories": [CATEGORY],
            },
            "versions": [version],
        },
    }


def schema(model: type[msgspec.Struct], doc: str = "") -> dict[str, Any]:
    """The structural schema of a kind's whole object; its metadata is the API server's business."""
    found = _object(model, ())
    properties = found["properties"]
    properties.pop("metadata", None)
    head = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
    found["properties"] = {**head, **properties}
    return {**found, "description": doc or found.get("description", "")}


def files(folder: Path) -> Iterator[tuple[Path, str]]:
    """Every definition as YAML, and the list of them."""
    names = []
    for one in DEFINITIONS:
        name = f"{one.kind.group}_{one.kind.plural}.yaml"
        names.append(name)
        yield folder / name, told(definition(one), where=one.kind.model.__module__)
    listed = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization", "resources": names}
    yield folder / "kustomization.yaml", told(listed, where="neap.common.kube.crd")


def told(*documents: Any, where: str) -> str:
    """YAML with a line that says where it comes from."""
    text = yaml.safe_dump_all(documents, sort_keys=False, width=120, allow_unicode=True, default_flow_style=False)
    return NOTE.format(where=where) + text


def _column(column: Column) -> dict[str, Any]:
    line: dict[str, Any] = {"name": column.name, "type": column.type, "jsonPath": column.path}
    if column.doc:
        line["description"] = column.doc
    if column.priority:
        line["priority"] = column.priority
    return line


def _object(model: type[msgspec.Struct], above: tuple[type, ...]) -> dict[str, Any]:
    """A Struct; `above` are those it is inside of."""
    told, docs = types.type_info(model), described(model)
    properties, required = {}, []
    if not isinstance(told, types.StructType):
        raise TypeError(f"{model} is no Struct")
    for field in told.fields:
        one = _schema(field.type, (*above, model))
        if doc := docs.get(field.name, ""):
            one["description"] = doc
        if field.required:
            required.append(field.encode_name)
        elif _is_plain(field.default) and "type" in one:
            one["default"] = field.default.value if isinstance(field.default, Enum) else field.default
        properties[field.encode_name] = one
    found: dict[str, Any] = {"type": "object", "description": _first(model.__doc__), "properties": properties}
    if required:
        found["required"] = required
    if rules := getattr(model, "RULES", ()):
        found["x-kubernetes-validations"] = [{"rule": rule.cel, "message": rule.says} for rule in rules]
    return found


def _is_plain(default: Any) -> bool:
    """Worth writing into objects that leave it out: a choice, a number, a flag. Nothing is left as nothing."""
    return isinstance(default, bool | int | float | Enum) or (isinstance(default, str) and default != "")


def _first(doc: str | None) -> str:
    return " ".join((doc or "").strip().split("\n\n")[0].split())


def _schema(told: types.Type, above: tuple[type, ...]) -> dict[str, Any]:
    match told:
        case types.Metadata(type=inner, extra=extra, extra_json_schema=also):
            found = {**_schema(inner, above), **(also or {})}
            if keys := (extra or {}).get(MAP_BY):
                found |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
            return found
        case types.UnionType(types=several):
            return _union([one for one in several if not isinstance(one, types.NoneType)], above)
        case types.StructType(cls=cls):
            return dict(KEPT) if cls in above else _object(cls, above)
        case types.StrType(pattern=pattern):
            return {"type": "string", **({"pattern": pattern} if pattern else {}), **_lengths(told)}
        case types.BoolType():
            return {"type": "boolean"}
        case types.IntType():
            return {"type": "integer", "format": "int64", **_bounds(told)}
        case types.FloatType():
            return {"type": "number", **_bounds(told)}
        case types.EnumType(cls=cls):
            return {"type": "string", "enum": [member.value for member in cls]}
        case types.LiteralType(values=values):
            return {"type": "string", "enum": list(values)}
        case types.VarTupleType(item_type=item):
            return {"type": "array", "items": _schema(item, above), **_lengths(told)}
        case types.DictType(value_type=types.AnyType()):
            return {**KEPT, **_lengths(told)}
        case types.DictType(value_type=value):
            return {"type": "object", "additionalProperties": _schema(value, above), **_lengths(told)}
        case types.AnyType():
            return dict(ANYTHING)
    raise TypeError(f"a structural schema has no word for {told}")


def _union(several: list[types.Type], above: tuple[type, ...]) -> dict[str, Any]:
    if len(several) == 1:
        return _schema(several[0], above)
    if all(isinstance(one, types.StrType | types.IntType | types.FloatType) for one in several):
        return {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True}
    raise TypeError(f"a structural schema has no word for {several}")


def _bounds(told: types.IntType | types.FloatType) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: getattr(told, own) for own, name in _BOUNDS.items() if getattr(told, own) is not None
    }
    if told.gt is not None:
        found["exclusiveMinimum"] = True
    if told.lt is not None:
        found["exclusiveMaximum"] = True
    return found


def _lengths(told: types.StrType | types.VarTupleType | types.DictType) -> dict[str, Any]:
    least, most = _LENGTHS[type(told)]
    pairs = ((least, told.min_length), (most, told.max_length))
    return {name: value for name, value in pairs if value is not None}
