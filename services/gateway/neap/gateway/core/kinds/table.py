"""What people say in our kinds and in Katalyst's, as messages of the bus; and what they are told back.

    KINDS[kind](object, at) -> Reading      profiles, editions of policy documents; or what is wrong with the object
    verdict(reading, object, at)            -> conditions of its status
    edited(before, said)                    -> the policy document with the edition, or None: it said so before
    gpu_pool_status(pool, nodes)            -> what a GpuPool shows
    ratios(configs, labels)                 -> over-commitment of a node with these labels

Nothing here is lost in silence: what is not honoured is named in the object's condition.
Over-commitment, like Katalyst's: of several configurations of one pool the newest counts, of one age the last by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from neap.common.errors import InputError
from neap.common.kube.katalyst import (
    ADMIN_QOS,
    BASELINE_SENTINEL,
    CUSTOM_CONFIGS,
    OVERCOMMIT_CONFIGS,
    OVERCOMMIT_POOL,
    PROFILE_DESCRIPTORS,
    CustomConfig,
    NodeOvercommitConfig,
    ServiceProfileDescriptor,
)
from neap.common.kube.kind import Kind
from neap.common.kube.objects import Condition, Metadata, Node
from neap.common.kube.own import (
    ACCEPTED,
    GPU_POOLS,
    NODE_POOL_POLICIES,
    SERVICE_PROFILES,
    GpuPool,
    GpuPoolStatus,
    NodePoolPolicy,
    Schedule,
    ServiceProfileObject,
    TargetRef,
)
from neap.common.kube.spd import AVERAGE, BANDWIDTH, indicators_of, moment, observations_of, tells_bandwidth
from neap.common.model.gpu import WHOLE_CARD
from neap.common.model.policy import POOL_LABEL, Edition, Name, PolicyDocument, Tier, flaw
from neap.common.model.profile import Baseline, Observation, ServiceProfile, Window
from neap.common.model.resource import GPU_CORE
from neap.common.model.window import Window as DayWindow
from neap.common.units import Ratio, Seconds, parse_quantity
from neap.gateway.core.kinds.admin_qos import admin_qos
from neap.gateway.core.kinds.reading import Reading, Said

SOURCE: Final = "gateway"
LONGEST_MESSAGE: Final = 1024  # characters of a condition
VENDOR: Final = "nvidia.com/gpu"  # whole cards, as the vendor's device plugin tells them


def read(kind: Kind[Any], value: Any, at: Seconds) -> Reading:
    """What an object says; never an error, but a reading with a flaw."""
    try:
        return KINDS[kind](value, at)
    except (InputError, msgspec.ValidationError) as error:
        return Reading(flaw=str(error))


# -- our kinds -----------------------------------------------------------------------------------------------------


def service_profile(value: ServiceProfileObject, at: Seconds) -> Reading:
    """A ServiceProfile of the bus."""
    spec = value.spec
    observations = tuple(
        Observation(
            kind=one.kind,
            machine=one.machine,
            pod_hours=one.pod_hours,
            windows=tuple(
                Window(start=moment(window.start), containers=window.containers, length=float(window.length_seconds))
                for window in one.windows
            ),
        )
        for one in spec.observations
    )
    profile = ServiceProfile(
        at=at,
        source=SOURCE,
        key=_key(value.metadata, spec.target),
        version=spec.version or f"g{value.metadata.generation}",
        observations=observations,
        baseline=Baseline(percent=spec.baseline_percent),
        portrait={kind: tuple(hours) for kind, hours in sorted(spec.portrait.items())},
    )
    remarks = [f"portrait of {kind} has {len(hours)} hours, not 24" for kind, hours in profile.portrait.items() if len(hours) != 24]  # fmt: skip
    return Reading(profiles=(profile,), remarks=tuple(remarks))


def node_pool_policy(value: NodePoolPolicy, at: Seconds) -> Reading:
    """An edition for each room it speaks of."""
    spec, name = value.spec, f"npp.{value.metadata.name}"
    edition = Edition(
        version=1,
        at=at,
        author=author(value.metadata, "NodePoolPolicy"),
        reason=spec.reason,
        tier=spec.tier,
        selector=spec.selector or "",
        canary=spec.canary,
        schedule=_window(spec.schedule),
        begins=0.0 if spec.begins is None else moment(spec.begins),
        expires=None if spec.expires is None else moment(spec.expires),
    )
    said = [
        Said(room, name, msgspec.structs.replace(edition, patch=patch)) for room, patch in sorted(spec.rooms.items())
    ]
    return _checked(Reading(said=tuple(said)))


def gpu_pool(value: GpuPool, at: Seconds) -> Reading:
    """How gpushare divides the cards of the pool's nodes."""
    edition = Edition(
        version=1,
        at=at,
        author=author(value.metadata, "GpuPool"),
        reason=value.spec.reason,
        tier=Tier.POOL,
        selector=value.spec.pool,
        patch={"mps": value.spec.mps},
    )
    return _checked(Reading(said=(Said("gpushare", f"ngp.{value.metadata.name}", edition),)))


# -- Katalyst's kinds ----------------------------------------------------------------------------------------------


def profile_descriptor(value: ServiceProfileDescriptor, at: Seconds) -> Reading:
    """The bandwidth it knows, by machine type, and its targets; MB/s per core there, bytes/s here."""
    remarks = ["spec.extendedIndicator is kept, not honoured"] if value.spec.extended_indicator else []
    remarks += [
        f"aggregator {metrics.aggregator} of {BANDWIDTH} is not used: avg is"
        for metrics in value.status.agg_metrics or ()
        if metrics.aggregator != AVERAGE and tells_bandwidth(metrics)
    ]
    profile = ServiceProfile(
        at=at,
        source=SOURCE,
        key=_key(value.metadata, value.spec.target_ref),
        version=f"spd-g{value.metadata.generation}",
        observations=observations_of(value.status),
        baseline=Baseline(percent=value.spec.baseline_percent, sentinel=_sentinel(value.metadata)),
        indicators=indicators_of(value.spec, value.status),
    )
    return Reading(profiles=(profile,), remarks=tuple(dict.fromkeys(remarks)))


def overcommit(value: NodeOvercommitConfig, _: Seconds) -> Reading:
    """Whether its ratios hold; what they mean for a node: `ratios`."""
    for kind, text in value.spec.resource_overcommit_ratio.items():
        _ratio(kind, text)
    return Reading()


def custom_config(_: CustomConfig, __: Seconds) -> Reading:
    """Taken, and not needed."""
    return Reading(remarks=("neap needs no KatalystCustomConfig: configurations hold as they are applied",))


def ratios(configs: Iterable[NodeOvercommitConfig], labels: Mapping[str, str]) -> dict[str, Ratio]:
    """Over-commitment by kind of a node with these labels; {}: none. See module docstring."""
    pool = labels.get(OVERCOMMIT_POOL)
    mine = [one for one in configs if one.spec.node_overcommit_selector_val == pool]
    if pool is None or not mine:
        return {}
    newest = max(mine, key=lambda one: (one.metadata.creation_timestamp or "", one.metadata.name))
    found = {}
    for kind, text in sorted(newest.spec.resource_overcommit_ratio.items()):
        try:
            found[kind] = _ratio(kind, text)
        except InputError:
            continue  # told in its condition
    return found


def gpu_pool_status(pool: str, nodes: Iterable[Node]) -> GpuPoolStatus:
    """What the nodes of a pool say they have: cards by the compute they offer, in percent of a card, or whole ones."""
    mine = [node for node in nodes if (node.metadata.labels or {}).get(POOL_LABEL) == pool]
    amounts = [node.status.allocatable or {} for node in mine]
    slices = [parse_quantity(str(one[GPU_CORE])) / WHOLE_CARD for one in amounts if GPU_CORE in one]
    whole = [parse_quantity(str(one[VENDOR])) for one in amounts if VENDOR in one and GPU_CORE not in one]
    cards = int(sum(slices) + sum(whole))
    return GpuPoolStatus(nodes=len(mine), cards=cards, sharing="slices" if slices else "whole cards" if whole else "")


KINDS: Final[Mapping[Kind[Any], Callable[[Any, Seconds], Reading]]] = {
    SERVICE_PROFILES: service_profile,
    NODE_POOL_POLICIES: node_pool_policy,
    GPU_POOLS: gpu_pool,
    PROFILE_DESCRIPTORS: profile_descriptor,
    OVERCOMMIT_CONFIGS: overcommit,
    ADMIN_QOS: admin_qos,
    CUSTOM_CONFIGS: custom_config,
}

# -- documents and conditions --------------------------------------------------------------------------------------


def edited(before: PolicyDocument | None, said: Said) -> PolicyDocument | None:
    """The document with what was said as its newest edition; None if its newest says just that."""
    edition = said.edition
    if before is None:
        return PolicyDocument(at=edition.at, source=SOURCE, room=said.room, name=said.name, editions=(edition,))
    same = msgspec.structs.replace(edition, version=before.now.version, at=before.now.at)
    return None if same == before.now else before.set(edition)


def verdict(
    reading: Reading, metadata: Metadata, at: Seconds, before: Iterable[Condition] = ()
) -> tuple[Condition, ...]:
    """The condition Accepted, beside those of others; its time is that of the last change between True and False."""
    if reading.flaw:
        status, reason, says = "False", "NotUnderstood", reading.flaw
    elif reading.hold:
        status, reason, says = "True", "Paused", "paused: what it said before stays in force"
    elif reading.remarks:
        status, reason, says = "True", "PartlyHonoured", "; ".join(reading.remarks)
    else:
        status, reason, says = "True", "Honoured", ""
    told = {one.type: one for one in before}
    old = told.get(ACCEPTED)
    since = old.last_transition_time if old is not None and old.status == status else None
    told[ACCEPTED] = Condition(
        type=ACCEPTED,
        status=status,
        reason=reason,
        message=says if len(says) <= LONGEST_MESSAGE else says[: LONGEST_MESSAGE - 1] + "…",
        last_transition_time=since or datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z"),
        observed_generation=metadata.generation or None,
    )
    return tuple(told[name] for name in sorted(told))


def author(metadata: Metadata, kind: str) -> str:
    """Who said it: the object."""
    return f"{kind} {metadata.key}"[:512]


def _checked(reading: Reading) -> Reading:
    """Editions and names hold whatever their room is; the room itself checks keys and bounds."""
    for said in reading.said:
        msgspec.convert(said.name, Name)
        if wrong := flaw(said.edition):
            raise InputError(wrong)
    return reading


def _window(schedule: Schedule | None) -> DayWindow | None:
    if schedule is None:
        return None
    return DayWindow(start=schedule.start, end=schedule.end, days=schedule.days, zone=schedule.zone)


def _key(metadata: Metadata, target: TargetRef) -> str:
    return f"{metadata.namespace}/{target.kind}/{target.name}"


def _ratio(kind: str, text: str) -> Ratio:
    ratio = float(parse_quantity(text))
    if not ratio >= 1:
        raise InputError(f"resourceOvercommitRatio of {kind} is {text}; below 1 nodes would lose what they have")
    return ratio


def _sentinel(metadata: Metadata) -> tuple[float, str] | None:
    """The youngest baseline pod, as Katalyst's controller wrote it down."""
    text = (metadata.annotations or {}).get(BASELINE_SENTINEL)
    if text is None:
        return None
    try:
        said = msgspec.json.decode(text, type=_Sentinel)
    except msgspec.DecodeError as error:
        raise InputError(f"annotation {BASELINE_SENTINEL}: {error}") from None
    return moment(said.time_stamp), said.pod_name


class _Sentinel(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    time_stamp: str
    pod_name: str
