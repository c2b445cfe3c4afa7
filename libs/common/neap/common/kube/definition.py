"""How one of our kinds presents itself to an API server: the short names, columns and rules beside its Struct.

    class Spec(Narrow, ...):
        RULES: ClassVar = (Rule("self.end != self.start", "the window has no length"),)
        end: HourMinute  # when it shuts                                    -> the field's description

Bounds, patterns and enums are the Struct's types (msgspec Meta); what they cannot say is a Rule, in CEL.
`MAP_BY` in Meta(extra=...) makes a list a map: no two items agree in these keys, and appliers own single items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from neap.common.kube.kind import Kind

MAP_BY: Final = "map_by"


@dataclass(frozen=True)
class Rule:
    """A condition on one object of the schema, checked when it is written; `says` is what people read then."""

    cel: str
    says: str


@dataclass(frozen=True)
class Column:
    """One column of `kubectl get`; those of a priority above 0 only with `-o wide`."""

    name: str
    path: str
    type: str = "string"
    doc: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Definition:
    """A kind and how it is shown."""

    kind: Kind[Any]
    doc: str
    short: tuple[str, ...]
    columns: tuple[Column, ...]
    status: bool = True
    ours: bool = True  # False: a kind of others that neap serves where nobody else does


def condition(name: str, type: str, field: str = "status", *, priority: int = 0) -> Column:
    """A column with one field of one condition."""
    return Column(name, f'.status.conditions[?(@.type=="{type}")].{field}', priority=priority)


AGE: Final = Column("Age", ".metadata.creationTimestamp", "date")
