"""What a settings Struct declares, field by field, and how people write values for it.

How to declare a setting: a field with a default, a type that carries the unit, and a comment on the same line.

    class Settings(msgspec.Struct, frozen=True, kw_only=True):
        period: Seconds = 1.0  # between two reports
        floor: Bytes = 2 * GIB  # never lend the last of it
        share: Annotated[Ratio, Meta(gt=0, le=1)] = 0.9  # of the idle cores that are lent

The unit is the alias of neap.common.units named in the annotation (or `Meta(extra={"unit": ...})`, see UNITS).
The doc is, in this order: `Meta(description=...)`, a string below the field, the comment behind it, the comment
lines above it. Bounds are msgspec `Meta`. Settings that belong together are a Struct of their own.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from io import StringIO
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import msgspec.inspect as types

from neap.common.errors import InputError
from neap.common.units import format_bytes, format_duration, parse_duration, parse_quantity

Duration: TypeAlias = Annotated[float, msgspec.Meta(ge=0, extra={"unit": "seconds"})]
Size: TypeAlias = Annotated[int, msgspec.Meta(ge=0, extra={"unit": "bytes"})]
Key: TypeAlias = tuple[str, ...]

UNITS: Final = {
    "Seconds": "seconds",
    "Duration": "seconds",
    "Bytes": "bytes",
    "Size": "bytes",
    "Cores": "cores",
    "MilliCores": "milli-cores",
    "Ratio": "ratio",
}
EXAMPLES: Final = {
    "seconds": "seconds, or 250ms, 5s, 1h30m",
    "bytes": "bytes, or 512Mi, 2Gi",
    "cores": "cores, or 500m",
    "milli-cores": "milli-cores, or 500m, 1.5k",
    "ratio": "a ratio, 0..1",
}
_WORDS: Final = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}
_NAMED_UNIT: Final = re.compile(r"\b(" + "|".join(UNITS) + r")\b")


@dataclass(frozen=True)
class Leaf:
    """One setting: `key` is its path below the section, `type` what msgspec checks it against."""

    key: Key
    type: Any
    unit: str
    default: Any  # msgspec.NODEFAULT: must be given
    doc: str

    @property
    def is_table(self) -> bool:
        """Whether its keys are free: a mapping."""
        return isinstance(_plain(_told(self.type)), types.DictType)

    @property
    def allowed(self) -> str:
        """What may be written here, for people."""
        return _allowed(_told(self.type), self.unit)

    def read(self, value: Any) -> Any:
        """A value as written (text, or what TOML made of it) as the field's type.

        Raises:
            InputError: it does not fit; says what is allowed.
        """
        try:
            read = msgspec.convert(_read(value, _told(self.type), self.unit), self.type, strict=False)
        except (InputError, msgspec.ValidationError, ValueError) as error:
            raise InputError(f"{error} (allowed: {self.allowed})") from None
        if isinstance(read, float) and not math.isfinite(read):
            raise InputError(f"not a finite number (allowed: {self.allowed})")
        return read

    def write(self, value: Any) -> str:
        """A value as a person would write it; `read` understands it."""
        if isinstance(value, tuple | list | set | frozenset):
            return ",".join(self.write(item) for item in value)
        if isinstance(value, str):
            return str(value)
        if self.unit == "seconds" and isinstance(value, float | int):
            text = format_duration(value)
            return text if parse_duration(text) == value else repr(value)
        if self.unit == "bytes" and isinstance(value, int):
            text = format_bytes(value)
            return text if parse_quantity(text) == value else str(value)
        return "none" if value is None else msgspec.json.encode(value, enc_hook=str).decode()


def leaves(kind: type[msgspec.Struct], *, at: Key = (), given: Any = None, told: bool = True) -> Iterator[Leaf]:
    """Every setting of `kind`, in the order of the source; `given` carries the defaults if somebody else chose them.

    Without `told` the source is not read, and a setting has no doc but the one in its type.
    """
    docs, units = _docs(kind) if told else {}, _units(kind)
    for field in fields(kind):
        default = default_of(field) if given is None else getattr(given, field.name)
        group = group_of(field.type)
        if group is not None:
            inner = default if isinstance(default, group) else None
            yield from leaves(group, at=(*at, field.name), given=inner, told=told)
            continue
        plain = _told(field.type)
        described = plain.extra_json_schema or {} if isinstance(plain, types.Metadata) else {}
        unit = (plain.extra or {}).get("unit", "") if isinstance(plain, types.Metadata) else ""
        doc = str(described.get("description", "")) or docs.get(field.name, "")
        yield Leaf((*at, field.name), field.type, str(unit) or units.get(field.name, ""), default, doc)


@lru_cache(maxsize=64)
def fields(kind: type[msgspec.Struct]) -> tuple[msgspec.structs.FieldInfo, ...]:
    """Of a Struct; asking costs a millisecond where annotations are text."""
    return msgspec.structs.fields(kind)


def default_of(field: msgspec.structs.FieldInfo) -> Any:
    """The default of a field, or NODEFAULT."""
    return field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default


def group_of(kind: Any) -> type[msgspec.Struct] | None:
    """The Struct behind an annotation if the field is a group of settings."""
    told = _plain(_told(kind))
    return told.cls if isinstance(told, types.StructType) else None


@lru_cache(maxsize=1024)
def _told(kind: Any) -> types.Type:
    """What msgspec says of a type; asking costs a tenth of a millisecond."""
    return types.type_info(kind)


def _plain(told: types.Type) -> types.Type:
    return _plain(told.type) if isinstance(told, types.Metadata) else told


def _read(value: Any, told: types.Type, unit: str) -> Any:
    match told:
        case types.Metadata(type=inner, extra=extra):
            return _read(value, inner, str((extra or {}).get("unit", unit)))
        case types.UnionType(types=several):
            if isinstance(value, str) and value.lower() in {"", "none"} and told.includes_none:
                return None
            return _read(value, next(one for one in several if not isinstance(one, types.NoneType)), unit)
        case types.VarTupleType(item_type=item) | types.ListType(item_type=item) | types.FrozenSetType(item_type=item):
            items = [part for part in map(str.strip, value.split(",")) if part] if isinstance(value, str) else value
            return [_read(one, item, unit) for one in items] if isinstance(items, list) else items
        case types.DictType(value_type=item) if isinstance(value, dict):
            return {name: _read(one, item, unit) for name, one in _flat(value, item)}
        case types.DictType() if isinstance(value, str):
            return msgspec.json.decode(value)
        case types.IntType() | types.FloatType() if isinstance(value, str):
            return _number(value.strip(), unit, whole=isinstance(told, types.IntType))
        case types.BoolType() if isinstance(value, str):
            return _WORDS.get(value.strip().lower(), value)
    return value


def _flat(table: dict[str, Any], item: types.Type) -> Iterator[tuple[str, Any]]:
    """The items of a table; where values are no tables, TOML's a.b = 1 is the item "a.b"."""
    for name, value in table.items():
        if isinstance(value, dict) and not isinstance(item, types.DictType | types.StructType | types.AnyType):
            yield from ((f"{name}.{below}", one) for below, one in _flat(value, item))
        else:
            yield name, value


def _number(text: str, unit: str, *, whole: bool) -> float:
    """A number without a suffix is in the field's own unit; a suffix says which unit is meant."""
    try:
        return int(text) if whole else float(text)
    except ValueError:
        pass
    if unit == "seconds":
        number: Fraction | float = parse_duration(text)
    elif unit in {"bytes", "cores", "milli-cores"}:
        number = parse_quantity(text) * (1000 if unit == "milli-cores" else 1)
    else:
        raise InputError(f"not a {'whole ' if whole else ''}number: {text[:64]!r}")
    if whole and number != int(number):
        raise InputError(f"not a whole number of {unit}: {text[:64]!r}")
    return int(number) if whole else float(number)


def _allowed(told: types.Type, unit: str) -> str:
    match told:
        case types.Metadata(type=inner, extra=extra):
            return _allowed(inner, str((extra or {}).get("unit", unit)))
        case types.IntType() | types.FloatType():
            signs = ((">", told.gt), (">=", told.ge), ("<", told.lt), ("<=", told.le))
            bounds = [f"{sign} {bound:g}" for sign, bound in signs if bound is not None]
            plain = "a whole number" if isinstance(told, types.IntType) else "a number"
            return ", ".join([EXAMPLES.get(unit, plain), *bounds])
        case types.BoolType():
            return "true, false"
        case types.EnumType(cls=cls):
            return ", ".join(str(member.value) for member in cls)
        case types.LiteralType(values=values):
            return ", ".join(map(str, values))
        case types.UnionType(types=several):
            return " or ".join(_allowed(one, unit) for one in several)
        case types.NoneType():
            return "none"
        case types.VarTupleType(item_type=item) | types.ListType(item_type=item) | types.FrozenSetType(item_type=item):
            return f"list, each: {_allowed(item, unit)}"
        case types.DictType(value_type=item):
            return f"table, each value: {_allowed(item, unit)}"
        case types.StrType(pattern=pattern):
            return f"text matching {pattern}" if pattern else "text"
    return type(told).__name__.removesuffix("Type").lower()


def _units(kind: type) -> dict[str, str]:
    """Units by the alias named in the source of the annotation: the alias itself is gone at run time."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        for name, annotation in vars(owner).get("__annotations__", {}).items():
            if isinstance(annotation, str) and (named := _NAMED_UNIT.search(annotation)):
                found[name] = UNITS[named[1]]
    return found


def _docs(kind: type) -> dict[str, str]:
    """Docs by field from the source, where there is a source."""
    found: dict[str, str] = {}
    for owner in reversed(kind.__mro__):
        if not vars(owner).get("__annotations__"):
            continue
        try:
            found |= _docs_in(inspect.cleandoc("\n" + inspect.getsource(owner)))
        except (OSError, TypeError, SyntaxError, tokenize.TokenError):
            continue
    return found


def _docs_in(source: str) -> dict[str, str]:
    tokens = tokenize.generate_tokens(StringIO(source).readline)
    comments = {
        t.start[0]: (t.string.lstrip("# ").strip(), t.line.lstrip()[:1] == "#")
        for t in tokens
        if t.type == tokenize.COMMENT
    }
    body = ast.parse(source).body[0]
    found: dict[str, str] = {}
    for node, below in zip(body.body, [*body.body[1:], None], strict=True) if isinstance(body, ast.ClassDef) else ():
        if not (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)):
            continue
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        behind = " ".join(comments[line][0] for line in lines if line in comments)
        above: list[str] = []
        line = node.lineno - 1
        while comments.get(line, ("", False))[1]:
            above.insert(0, comments[line][0])
            line -= 1
        string = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else ""
        found[node.target.id] = inspect.cleandoc(str(string)) or behind or " ".join(above)
    return found
