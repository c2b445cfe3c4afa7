"""What no constraint of a pod may be, wherever it comes from: too long a list, a key that is no label, a weight of 0.

Said as a sentence that names the field and the value; the rules are Kubernetes' own, the lengths of lists are ours.
Source: Kubernetes API validation (labels, selectors, node and pod affinity, topology spread; annotations 256 KiB).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Final

from neap.common.errors import InputError
from neap.common.model.scheduling import (
    NOBODY,
    Constraints,
    Expression,
    NodeTerm,
    Operator,
    PodTerm,
    Spread,
    Toleration,
)
from neap.common.model.workload import Workload
from neap.common.units import KIB

MOST_TERMS: Final = 64  # of one kind
MOST_EXPRESSIONS: Final = 64  # per term
MOST_VALUES: Final = 256  # per expression, and namespaces per term
MOST_KEYS: Final = 64  # node labels that one pod asks about, all together
MOST_LABELS: Final = 256  # of a pod
MOST_NAMES: Final = 64  # datasets
MOST_IMAGES: Final = 128  # of all containers
MOST_ANNOTATIONS: Final = 256 * KIB  # of all keys and values together
MOST_TEXT: Final = 512  # characters of a value, an image, a dataset
WEIGHTS: Final = range(1, 101)
MOST_SKEW: Final = 1 << 31
LABEL: Final = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
INTEGER: Final = re.compile(r"[+-]?[0-9]{1,19}")
NODE_LABELS: Final = "affinity.nodeAffinity"


def wish_flaw(workload: Workload) -> str:
    """Why a workload's wishes cannot be; empty if they can."""
    return next(_flaws(workload), "")


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Before anybody reads one of them.

    Raises:
        InputError: they are too much together; names the largest.
    """
    if flaw := _annotation_flaw(annotations):
        raise InputError(flaw)


def _annotation_flaw(annotations: Mapping[str, str]) -> str:
    sizes = {key: len(key.encode()) + len(value.encode()) for key, value in annotations.items()}
    if sum(sizes.values()) <= MOST_ANNOTATIONS:
        return ""
    largest = max(sizes, key=lambda key: sizes[key])
    said = f"annotations have {sum(sizes.values())} bytes, {MOST_ANNOTATIONS} are allowed"
    return f"{said} (the largest is {largest[:64]!r} with {sizes[largest]})"


def _flaws(workload: Workload) -> Iterator[str]:
    if flaw := _annotation_flaw(workload.annotations):
        yield flaw
    yield from _too_many(workload.labels, MOST_LABELS, "labels")
    yield from _too_many(workload.datasets, MOST_NAMES, "datasets")
    yield from _too_many(workload.images, MOST_IMAGES, "images")
    for what, names in (
        ("dataset", workload.datasets),
        ("image", workload.images),
        ("card model", workload.gpu_models),
    ):
        for name in names:
            if not 1 <= len(name) <= MOST_TEXT:
                yield f"{what} {name[:64]!r} has {len(name)} characters (1..{MOST_TEXT})"
    yield from _flaws_of(workload.constraints, workload.node_selector)


def _flaws_of(wish: Constraints, selected: Iterable[str]) -> Iterator[str]:
    yield from _too_many(wish.tolerations, MOST_TERMS, "tolerations")
    for toleration in wish.tolerations:
        yield from _toleration(toleration)
    asked: set[str] = set(selected)
    for field, terms, weighted in (
        (f"{NODE_LABELS} required", wish.node_required, False),
        (f"{NODE_LABELS} preferred", wish.node_preferred, True),
    ):
        yield from _too_many(terms, MOST_TERMS, field)
        for term in terms:
            yield from _node_term(term, field, weighted=weighted)
            asked.update(one.key for one in term.expressions)
    for field, near, weighted in (
        ("affinity.podAffinity required", wish.near, False),
        ("affinity.podAffinity preferred", wish.near_preferred, True),
        ("affinity.podAntiAffinity required", wish.apart, False),
        ("affinity.podAntiAffinity preferred", wish.apart_preferred, True),
    ):
        yield from _too_many(near, MOST_TERMS, field)
        for one in near:
            yield from _pod_term(one, field, weighted=weighted)
            asked.add(one.topology)
    yield from _too_many(wish.spread, MOST_TERMS, "topologySpreadConstraints")
    for spread in wish.spread:
        yield from _spread(spread)
        asked.add(spread.topology)
    yield from _too_many(asked, MOST_KEYS, "keys of node labels")


def _too_many(some: Sized, most: int, what: str) -> Iterator[str]:
    if len(some) > most:
        yield f"{what}: {len(some)} of them, at most {most} are allowed"


def _toleration(one: Toleration) -> Iterator[str]:
    if one.key and not LABEL.fullmatch(one.key):
        yield f"tolerations: key {one.key[:64]!r} is not legal"
    if len(one.value) > MOST_TEXT:
        yield f"tolerations: value {one.value[:64]!r} has {len(one.value)} characters (at most {MOST_TEXT})"


def _node_term(term: NodeTerm, field: str, *, weighted: bool) -> Iterator[str]:
    yield from _weight(term.weight, field, weighted=weighted)
    yield from _expressions(term.expressions, field)
    yield from _too_many(term.names, MOST_EXPRESSIONS, f"{field} matchFields")
    for one in term.names:
        if one.operator not in (Operator.IN, Operator.NOT_IN) or len(one.values) != 1:
            yield f"{field}: matchFields {one.key[:64]} {one.operator} {one.values[:4]!r:.64} needs In or NotIn and one name"


def _pod_term(term: PodTerm, field: str, *, weighted: bool) -> Iterator[str]:
    yield from _weight(term.weight, field, weighted=weighted)
    yield from _topology(term.topology, field)
    yield from _too_many(term.namespaces, MOST_VALUES, f"{field} namespaces")
    if term.selector != (NOBODY,):
        yield from _expressions(term.selector, field, of_pods=True)


def _spread(spread: Spread) -> Iterator[str]:
    field = "topologySpreadConstraints"
    yield from _topology(spread.topology, field)
    yield from _expressions(spread.selector, field, of_pods=True)
    for name, number in (("maxSkew", spread.skew), ("minDomains", spread.least_domains)):
        if not 1 <= number < MOST_SKEW:
            yield f"{field} over {spread.topology[:64]}: {name} {number} is not 1 or more"


def _topology(key: str, field: str) -> Iterator[str]:
    if not LABEL.fullmatch(key):
        yield f"{field}: topologyKey {key[:64]!r} is no legal label"


def _weight(weight: int, field: str, *, weighted: bool) -> Iterator[str]:
    if weighted and weight not in WEIGHTS:
        yield f"{field}: weight {weight} is not {WEIGHTS.start}..{WEIGHTS.stop - 1}"


def _expressions(some: tuple[Expression, ...], field: str, *, of_pods: bool = False) -> Iterator[str]:
    yield from _too_many(some, MOST_EXPRESSIONS, f"{field} expressions")
    for one in some:
        if not LABEL.fullmatch(one.key):
            yield f"{field}: key {one.key[:64]!r} is no legal label"
        said = f"{field}: {one.key[:64]} {one.operator} {one.values[:4]!r:.64}"
        yield from _too_many(one.values, MOST_VALUES, f"{field} values of {one.key[:64]}")
        for value in one.values:
            if len(value) > MOST_TEXT:
                yield f"{field}: a value of {one.key[:64]} has {len(value)} characters (at most {MOST_TEXT})"
        match one.operator:
            case Operator.IN | Operator.NOT_IN if not one.values:
                yield f"{said} needs values"
            case Operator.EXISTS | Operator.DOES_NOT_EXIST if one.values:
                yield f"{said} takes no values"
            case Operator.GREATER | Operator.LESS if of_pods:
                yield f"{said}: labels of pods are not compared"
            case Operator.GREATER | Operator.LESS if len(one.values) != 1 or not INTEGER.fullmatch(one.values[0]):
                yield f"{said} needs one whole number"
