"""Label selectors as they stand in a query: `app=cart,tier in (web,api),!canary`.

A comma joins by "and"; `!=` and `notin` hold for objects that have no such label.
Source: Kubernetes documentation, "Labels and Selectors".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

from neap.common.errors import InputError
from neap.common.model.scheduling import Expression, Operator

LONGEST: Final = 8192  # characters
MOST: Final = 64  # conditions
_PART: Final = re.compile(
    r"\s*(?:"
    r"(?P<set>[^\s,=!()]+)\s+(?P<word>in|notin)\s*\((?P<values>[^()]*)\)"
    r"|(?P<key>[^\s,=!()]+)\s*(?P<sign>==|=|!=)\s*(?P<value>[^\s,=!()]*)"
    r"|(?P<no>!)\s*(?P<missing>[^\s,=!()]+)"
    r"|(?P<there>[^\s,=!()]+)"
    r")\s*(?:,|$)"
)


def parse_selector(text: str) -> tuple[Expression, ...]:
    """The conditions; none for an empty text.

    Raises:
        InputError: it is no selector.
    """
    found: list[Expression] = []
    place = 0
    while place < len(text):
        part = _PART.match(text, place) if len(text) <= LONGEST and len(found) < MOST else None
        if part is None or (part.end() == len(text) and text.endswith(",")):
            raise InputError(f"not a label selector: {text[:64]!r} (example: app=cart,tier in (web,api),!canary)")
        place = part.end()
        found.append(_expression(part))
    return tuple(found)


def _expression(part: re.Match[str]) -> Expression:
    if part["set"]:
        values = tuple(value.strip() for value in part["values"].split(","))
        return Expression(
            key=part["set"], operator=Operator.IN if part["word"] == "in" else Operator.NOT_IN, values=values
        )
    if part["key"]:
        operator = Operator.NOT_IN if part["sign"] == "!=" else Operator.IN
        return Expression(key=part["key"], operator=operator, values=(part["value"],))
    if part["no"]:
        return Expression(key=part["missing"], operator=Operator.DOES_NOT_EXIST)
    return Expression(key=part["there"])


def selects(conditions: Sequence[Expression], labels: Mapping[str, str]) -> bool:
    """Whether all conditions hold."""
    return all(_holds(one, labels) for one in conditions)


def _holds(one: Expression, labels: Mapping[str, str]) -> bool:
    match one.operator:
        case Operator.IN:
            return labels.get(one.key) in one.values
        case Operator.NOT_IN:
            return labels.get(one.key) not in one.values
        case Operator.DOES_NOT_EXIST:
            return one.key not in labels
        case _:
            return one.key in labels
