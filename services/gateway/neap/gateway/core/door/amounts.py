"""What containers ask for, rewritten so that the API server takes it and neap means the same by it.

    reclaimed_cores pods    cpu, memory            -> neap.io/reclaimed-millicpu, neap.io/reclaimed-memory
    all pods of neap's      an older name          -> today's name (RENAMED)
                            half a reclaimed core  -> neap.io/reclaimed-millicpu, for only integers pass the API server
                            a request, no limit    -> the limit too, for Kubernetes wants them equal of such kinds

An amount in model units (`model/resource.py`) is the same before and after. The request is what is lent: a limit above
it does not survive, and that is said. Where a container asks for cpu and for reclaimed cpu at once, cpu goes: that is
what a LimitRange leaves when the API server runs its own admission again after ours.
Source: Kubernetes API validation (extended resources are integers, requests equal limits); katalyst-api
pkg/consts/resource.go (names; 10 milligpu are one percent of a card).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from neap.common.errors import InputError
from neap.common.model.resource import (
    ALIASES,
    CPU,
    GPU_CORE,
    GPU_MEMORY,
    MEMORY,
    RECLAIMED_CPU,
    RECLAIMED_MEMORY,
    RECLAIMED_MILLI_CPU,
    UNITS,
    parse_amount,
)
from neap.common.units import parse_quantity

Amounts: TypeAlias = dict[str, Any]  # by kind, as people write them
Resources: TypeAlias = dict[str, Any]  # a container's `resources`

OURS: Final = "neap.io/"
THEIRS: Final = "resource.katalyst.kubewharf.io/"
OLD: Final = "katalyst.kubewharf.io/reclaimed_"
LENT: Final[Mapping[str, tuple[str, str]]] = {  # kind -> its reclaimed kind, and that one's name in a pod
    CPU: (RECLAIMED_CPU, RECLAIMED_MILLI_CPU),
    MEMORY: (RECLAIMED_MEMORY, RECLAIMED_MEMORY),
}
RENAMED: Final[Mapping[str, tuple[str, int]]] = {  # name -> today's, and how many of it are one of today's
    f"{OLD}millicpu": (RECLAIMED_MILLI_CPU, 1),
    f"{OLD}memory": (RECLAIMED_MEMORY, 1),
    f"{THEIRS}milligpu": (GPU_CORE, 10),
    f"{THEIRS}gpu_memory": (GPU_MEMORY, 1),
}
KNOWN: Final = frozenset(kind for kind in (*UNITS, *ALIASES) if kind.startswith(OURS))
SIDES: Final = ("requests", "limits")


def is_neaps(kind: str) -> bool:
    """Whether a resource kind means anything to neap only."""
    return kind.startswith((OURS, THEIRS, OLD))


def containers_of(spec: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every container with its path below the pod: sidecars and init containers too."""
    for field in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(field) or ()):
            yield f"/spec/{field}/{index}", container


def kinds_of(container: Mapping[str, Any]) -> list[str]:
    """The kinds it asks for or is limited in, each once."""
    resources = container.get("resources") or {}
    return list(dict.fromkeys(kind for side in SIDES for kind in resources.get(side) or ()))


def rewritten(resources: Resources, *, lend: bool, where: str, said: list[str]) -> Resources:
    """See module docstring; `lend`: of a reclaimed_cores pod. What a reader would not expect is added to `said`.

    Raises:
        InputError: an amount cannot be read, or is asked under two names; names container and amounts.
    """
    asked, limits = ({**(resources.get(side) or {})} for side in SIDES)
    before = {**asked}, {**limits}
    for amounts in (asked, limits):
        _rename(amounts, where, said)
        if lend:
            _only_once(amounts, where)
    if lend:
        for kind in LENT:
            _lend(kind, asked, limits, where, said)
    for kind, amount in asked.items():
        if is_neaps(kind):
            limits.setdefault(kind, amount)
    if (asked, limits) == before:
        return resources
    rest = {key: value for key, value in resources.items() if key not in SIDES}
    return rest | {side: amounts for side, amounts in zip(SIDES, (asked, limits), strict=True) if amounts}


def _rename(amounts: Amounts, where: str, said: list[str]) -> None:
    for kind, amount in list(amounts.items()):
        if kind in RENAMED:
            name, size = RENAMED[kind]
            count = parse_quantity(str(amount)) / size
            if count.denominator != 1:
                raise InputError(f"{where}: {kind}={amount} is no multiple of {size}, so no whole {name}")
            said.append(f"{where}: {kind}={amount} is read as {name}={count}")
            _put(amounts, kind, name, str(count), where)
        elif kind == RECLAIMED_CPU and parse_quantity(str(amount)).denominator != 1:
            _put(amounts, kind, RECLAIMED_MILLI_CPU, str(parse_amount(kind, str(amount), where=where)[1]), where)


def _put(amounts: Amounts, old: str, new: str, amount: str, where: str) -> None:
    if new in amounts:
        raise InputError(f"{where}: {old}={amounts[old]} and {new}={amounts[new]} are one resource under two names")
    del amounts[old]
    amounts[new] = amount


def _only_once(amounts: Amounts, where: str) -> None:
    """Two names of one kind would be one amount to neap, and two to Kubernetes."""
    seen: dict[str, str] = {}
    for kind in amounts:
        first = seen.setdefault(ALIASES.get(kind, kind), kind)
        if first != kind:
            raise InputError(
                f"{where}: {first}={amounts[first]} and {kind}={amounts[kind]} are one resource under two names"
            )


def _lend(kind: str, asked: Amounts, limits: Amounts, where: str, said: list[str]) -> None:
    """One kind of one container; see module docstring."""
    request, limit = asked.pop(kind, None), limits.pop(kind, None)
    written = limit if request is None else request
    if written is None:
        return
    lent, name = LENT[kind]
    _, amount = parse_amount(kind, str(written), where=where)
    most = amount if limit is None else parse_amount(kind, str(limit), where=where)[1]
    there = next((other for other in (*asked, *limits) if ALIASES.get(other, other) == lent), "")
    if there:
        said.append(f"{where}: {kind}={written} is dropped, {there} is what it gets")
        return
    if most != amount:
        said.append(f"{where}: limit {kind}={limit} is dropped; {name} has one number, the request {kind}={written}")
    if amount:
        asked[name] = limits[name] = str(amount) if kind == CPU else str(written)
