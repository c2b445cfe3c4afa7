"""A pod spec's tolerations, affinity and topology spread as Constraints, by Kubernetes' own rules.

What would change where a pod may run and is not understood is refused by name, never left out; what says nothing about
that (tolerationSeconds) is left out. Keys of matchLabelKeys and mismatchLabelKeys become conditions on the pod's own
labels, as the API server does. A null label selector selects no pod, an empty one all of them.
Source: Kubernetes API, Pod spec (fields and validation rules).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec

from neap.common.errors import InputError
from neap.common.model.scheduling import (
    NOBODY,
    Constraints,
    Effect,
    Expression,
    NodeTerm,
    Operator,
    PodTerm,
    Spread,
    Toleration,
)

PLACE: Final = re.compile(r" - at `\$([^`]*)`$")
STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+)\]")
FIELD_NAME: Final = "metadata.name"
T = TypeVar("T")


class _Strict(msgspec.Struct, kw_only=True, rename="camel", forbid_unknown_fields=True):
    pass


class _Requirement(_Strict):
    key: str
    operator: Operator
    values: list[str] | None = None

    def expression(self) -> Expression:
        return Expression(key=self.key, operator=self.operator, values=tuple(self.values or ()))


class _Selector(_Strict):
    match_labels: dict[str, str] | None = None
    match_expressions: list[_Requirement] | None = None


class _Toleration(_Strict):
    key: str | None = None
    operator: str | None = None
    value: str | None = None
    effect: str | None = None
    toleration_seconds: int | None = None  # how long it may stay when it is put on; nothing to a scheduler


class _NodeTerm(_Strict):
    match_expressions: list[_Requirement] | None = None
    match_fields: list[_Requirement] | None = None


class _PreferredNodeTerm(_Strict):
    weight: int
    preference: _NodeTerm


class _NodeSelector(_Strict):
    node_selector_terms: list[_NodeTerm]


class _NodeAffinity(_Strict):
    required_during_scheduling_ignored_during_execution: _NodeSelector | None = None
    preferred_during_scheduling_ignored_during_execution: list[_PreferredNodeTerm] | None = None


class _PodTerm(_Strict):
    topology_key: str
    label_selector: _Selector | None = None
    namespaces: list[str] | None = None
    namespace_selector: Any = None
    match_label_keys: list[str] | None = None
    mismatch_label_keys: list[str] | None = None


class _PreferredPodTerm(_Strict):
    weight: int
    pod_affinity_term: _PodTerm


class _PodAffinity(_Strict):
    required_during_scheduling_ignored_during_execution: list[_PodTerm] | None = None
    preferred_during_scheduling_ignored_during_execution: list[_PreferredPodTerm] | None = None


class _Affinity(_Strict):
    node_affinity: _NodeAffinity | None = None
    pod_affinity: _PodAffinity | None = None
    pod_anti_affinity: _PodAffinity | None = None


class _Spread(_Strict):
    max_skew: int
    topology_key: str
    when_unsatisfiable: str
    label_selector: _Selector | None = None
    min_domains: int | None = None
    node_affinity_policy: str | None = None
    node_taints_policy: str | None = None
    match_label_keys: list[str] | None = None


def constraints_of(tolerations: Any, affinity: Any, spreads: Any, labels: Mapping[str, str]) -> Constraints:
    """The constraints of a pod with these labels; amounts and names are checked by `constraint_flaw`.

    Raises:
        InputError: names the field and the value.
    """
    wish = convert(affinity, _Affinity, "affinity") if affinity is not None else _Affinity()
    node = wish.node_affinity or _NodeAffinity()
    near, apart = wish.pod_affinity or _PodAffinity(), wish.pod_anti_affinity or _PodAffinity()
    required = node.required_during_scheduling_ignored_during_execution
    if required is not None and not required.node_selector_terms:
        raise InputError("affinity.nodeAffinity: nodeSelectorTerms is empty; required terms need at least one")
    return Constraints(
        tolerations=tuple(map(_toleration, convert(tolerations or [], list[_Toleration], "tolerations"))),
        node_required=tuple(map(_node_term, required.node_selector_terms if required is not None else ())),
        node_preferred=tuple(
            _node_term(term.preference, term.weight)
            for term in node.preferred_during_scheduling_ignored_during_execution or ()
        ),
        near=_pod_terms(near, "podAffinity", labels),
        near_preferred=_preferred(near, "podAffinity", labels),
        apart=_pod_terms(apart, "podAntiAffinity", labels),
        apart_preferred=_preferred(apart, "podAntiAffinity", labels),
        spread=tuple(
            _spread(one, labels) for one in convert(spreads or [], list[_Spread], "topologySpreadConstraints")
        ),
    )


def convert(document: Any, kind: type[T], field: str) -> T:
    """A part of a document in its shape.

    Raises:
        InputError: names the place below `field`, what is wrong, and the value found there.
    """
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        text = str(error)
        found = PLACE.search(text)
        path = found.group(1) if found else ""
        value = f", found {_at(document, path)!r:.64}" if "..." not in path else ""
        raise InputError(f"{field}{path}: {PLACE.sub('', text)}{value}") from None


def _at(document: Any, path: str) -> Any:
    """What stands at a path; the last thing on the way where it ends early."""
    for name, index in STEP.findall(path):
        try:
            document = document[int(index) if index else name]
        except (KeyError, IndexError, TypeError):
            break
    return document


def _toleration(one: _Toleration) -> Toleration:
    key, value, effect = one.key or "", one.value or "", one.effect or ""
    operator = one.operator or "Equal"
    if operator not in ("Equal", "Exists"):
        raise InputError(f"tolerations: operator {operator!r:.64} of {key!r:.64} is neither Equal nor Exists")
    if effect not in ("", *Effect):
        raise InputError(f"tolerations: effect {effect!r:.64} of {key!r:.64} is none of {', '.join(Effect)}")
    if not key and operator == "Equal":
        raise InputError(f"tolerations: without a key the operator must be Exists (value {value!r:.64})")
    if value and operator == "Exists":
        raise InputError(f"tolerations: {key!r:.64} Exists, and has a value {value!r:.64}")
    return Toleration(key=key, exists=operator == "Exists", value=value, effect=effect)


def _node_term(term: _NodeTerm, weight: int = 0) -> NodeTerm:
    names = term.match_fields or ()
    for one in names:
        if one.key != FIELD_NAME:
            raise InputError(f"affinity.nodeAffinity: matchFields key {one.key!r:.64} is not {FIELD_NAME}")
    return NodeTerm(
        expressions=tuple(one.expression() for one in term.match_expressions or ()),
        names=tuple(one.expression() for one in names),
        weight=weight,
    )


def _pod_terms(side: _PodAffinity, field: str, labels: Mapping[str, str]) -> tuple[PodTerm, ...]:
    terms = side.required_during_scheduling_ignored_during_execution or ()
    return tuple(_pod_term(term, field, labels) for term in terms)


def _preferred(side: _PodAffinity, field: str, labels: Mapping[str, str]) -> tuple[PodTerm, ...]:
    terms = side.preferred_during_scheduling_ignored_during_execution or ()
    return tuple(_pod_term(term.pod_affinity_term, field, labels, term.weight) for term in terms)


def _pod_term(term: _PodTerm, field: str, labels: Mapping[str, str], weight: int = 0) -> PodTerm:
    where = f"affinity.{field} over {term.topology_key!r:.64}"
    if term.namespace_selector is not None:
        raise InputError(
            f"{where}: namespaceSelector {term.namespace_selector!r:.64} is not supported; list namespaces"
        )
    own = _own(term.match_label_keys, Operator.IN, labels) + _own(term.mismatch_label_keys, Operator.NOT_IN, labels)
    return PodTerm(
        topology=term.topology_key,
        selector=_selector(term.label_selector, own, where),
        namespaces=tuple(sorted(set(term.namespaces or ()))),
        weight=weight,
    )


def _spread(one: _Spread, labels: Mapping[str, str]) -> Spread:
    where = f"topologySpreadConstraints over {one.topology_key!r:.64}"
    if one.when_unsatisfiable not in ("DoNotSchedule", "ScheduleAnyway"):
        raise InputError(
            f"{where}: whenUnsatisfiable {one.when_unsatisfiable!r:.64} is neither DoNotSchedule nor ScheduleAnyway"
        )
    hard = one.when_unsatisfiable == "DoNotSchedule"
    if one.node_affinity_policy not in (None, "Honor"):
        raise InputError(f"{where}: nodeAffinityPolicy {one.node_affinity_policy!r:.64} is not supported, only Honor")
    if one.node_taints_policy not in (None, "Ignore"):
        raise InputError(f"{where}: nodeTaintsPolicy {one.node_taints_policy!r:.64} is not supported, only Ignore")
    if one.min_domains is not None and not hard:
        raise InputError(f"{where}: minDomains {one.min_domains} is only for DoNotSchedule")
    selector = _selector(one.label_selector, _own(one.match_label_keys, Operator.IN, labels), where)
    return Spread(
        topology=one.topology_key,
        skew=one.max_skew,
        hard=hard,
        selector=() if selector == (NOBODY,) else selector,
        least_domains=1 if one.min_domains is None else one.min_domains,
    )


def _own(keys: Sequence[str] | None, operator: Operator, labels: Mapping[str, str]) -> tuple[Expression, ...]:
    """The pod's own values of these labels; keys it does not carry are ignored."""
    return tuple(
        Expression(key=key, operator=operator, values=(labels[key],))
        for key in sorted(set(keys or ()))
        if key in labels
    )


def _selector(selector: _Selector | None, own: Iterable[Expression], where: str) -> tuple[Expression, ...]:
    if selector is None:
        if own := tuple(own):
            raise InputError(f"{where}: match keys {', '.join(one.key for one in own):.64} without a labelSelector")
        return (NOBODY,)
    labels = sorted((selector.match_labels or {}).items())
    return (
        *(Expression(key=key, operator=Operator.IN, values=(value,)) for key, value in labels),
        *(one.expression() for one in _on_labels(selector.match_expressions or (), where)),
        *own,
    )


def _on_labels(some: Iterable[_Requirement], where: str) -> Iterator[_Requirement]:
    for one in some:
        if one.operator in (Operator.GREATER, Operator.LESS):
            raise InputError(f"{where}: labels of pods are not compared by {one.operator} (key {one.key!r:.64})")
        yield one
