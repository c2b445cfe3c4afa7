"""What a node shows in the API: extended resources of its Node object, and its CustomNodeResource.

    neap.io/reclaimed-millicpu, resource.katalyst.kubewharf.io/reclaimed_millicpu    milli-cores
    neap.io/reclaimed-cpu                                                            whole cores, rounded down
    neap.io/reclaimed-memory, resource.katalyst.kubewharf.io/reclaimed_memory        bytes
    neap.io/gpu-core, neap.io/gpu-memory                                             percent, MiB, of all cards

Of a machine only what the mirror shows is kept, a few hundred bytes. A pod bound to several NUMA nodes has an even part
of each, as the ledger charges it.
Source: kubewharf/katalyst-api pkg/apis/node/v1alpha1 (shape); Kubernetes API validation (whole numbers only).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, NamedTuple

from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.kube.katalyst import (
    RECLAIMED_BYTES,
    RECLAIMED_MILLICPU,
    Allocation,
    CustomNodeResource,
    MirrorCondition,
    MirrorStatus,
    MirrorZone,
    NamedValue,
    Pair,
)
from neap.common.kube.objects import Amounts, Metadata, OwnerReference
from neap.common.model.enforcement import NodeEnforcement, Stance
from neap.common.model.evicting import Evicting
from neap.common.model.ratios import NodeRatios
from neap.common.model.resource import (
    CPU,
    GPU_CORE,
    GPU_MEMORY,
    MEMORY,
    RECLAIMED_CPU,
    RECLAIMED_MEMORY,
    RECLAIMED_MILLI_CPU,
    Resources,
    parse_amount,
)
from neap.common.model.topology import NodeTopology, Zone, ZoneKind
from neap.common.units import Seconds
from neap.gateway.core.pods.book import Hold

LENT: Final = (RECLAIMED_CPU, RECLAIMED_MEMORY)
SHOWN: Final = {
    RECLAIMED_MILLI_CPU: RECLAIMED_CPU,
    RECLAIMED_MEMORY: RECLAIMED_MEMORY,
    GPU_CORE: GPU_CORE,
    GPU_MEMORY: GPU_MEMORY,
}
WHOLE_CARD: Final = 100  # percent
READY: Final = "AgentReady"
CLOSED: Final = "GuestsWelcome"
SOLD: Final = "Overcommitted"


class Numa(NamedTuple):
    """One NUMA node; CPU in milli-cores, memory in bytes."""

    number: int
    package: int
    cpu: int
    memory: int
    cards: tuple[int, ...]


class Sold(NamedTuple):
    """How much more than it has a node sells just now."""

    since: Seconds
    more: bool
    why: str


def sold_of(ratios: NodeRatios) -> Sold:
    """In a sentence: cpu x1.42 of x1.5 set, memory x1 of x1.2 set; lowered by whom."""
    kinds = [f"{one.resource} x{one.ratio:.4g} of x{one.set:.4g} set" for one in ratios.kinds]
    why = "; ".join(part for part in (", ".join(kinds), ratios.lowered) if part)
    return Sold(ratios.at, any(one.ratio > 1 for one in ratios.kinds), why)


class Machine(NamedTuple):
    """What the mirror shows of a machine."""

    numa: tuple[Numa, ...] = ()
    cards: int = 0
    card_memory: int = 0  # MiB, of all cards


def machine_of(topology: NodeTopology) -> Machine:
    """The few facts that are shown."""
    packages = dict(_packages(topology.machine))
    cards: dict[int, list[int]] = {}
    for card in topology.cards:
        cards.setdefault(card.numa, []).append(card.index)
    return Machine(
        numa=tuple(
            Numa(one.index, packages.get(one.index, 0), 1000 * _cpus(one.cpus), one.memory, tuple(cards.get(one.index, ())))
            for one in topology.numa
        ),
        cards=len(topology.cards),
        card_memory=sum(card.memory_mib for card in topology.cards),
    )  # fmt: skip


def _cpus(text: str) -> int:
    try:
        return len(parse_cpuset(text))
    except InputError:
        return 0


def _packages(zone: Zone, package: int = 0) -> list[tuple[int, int]]:
    """(NUMA node, package) of all NUMA nodes below."""
    package = zone.index if zone.kind is ZoneKind.PACKAGE else package
    own = [(zone.index, package)] if zone.kind is ZoneKind.NUMA else []
    return own + [pair for child in zone.children for pair in _packages(child, package)]


def amounts_of(offer: Mapping[str, int], machine: Machine) -> Resources:
    """What a node has beside what its kubelet says: what it lends, and its cards."""
    found = {kind: max(0, offer[kind]) for kind in LENT if kind in offer}
    if machine.cards:
        found |= {GPU_CORE: WHOLE_CARD * machine.cards, GPU_MEMORY: machine.card_memory}
    return found


def shown_by(amounts: Amounts | None) -> Resources:
    """The same, read from a Node object."""
    found: Resources = {}
    for name, kind in SHOWN.items():
        text = (amounts or {}).get(name)
        if text is not None:
            try:
                found[kind] = parse_amount(name, str(text))[1]
            except InputError:
                continue
    return found


def extended(amounts: Mapping[str, int]) -> dict[str, str]:
    """As the Node object has it, under all names; kinds not offered any more are nothing."""
    found = {name: str(amounts.get(kind, 0)) for name, kind in SHOWN.items() if kind in LENT or kind in amounts}
    cpu, memory = amounts.get(RECLAIMED_CPU, 0), amounts.get(RECLAIMED_MEMORY, 0)
    return found | {RECLAIMED_CPU: str(cpu // 1000), RECLAIMED_MILLICPU: str(cpu), RECLAIMED_BYTES: str(memory)}


def mirror_of(
    node: str,
    uid: str,
    at: Seconds,
    *,
    amounts: Mapping[str, int],
    machine: Machine,
    held: Mapping[str, Hold],
    policy: str = "",
    conditions: tuple[MirrorCondition, ...] = (),
) -> CustomNodeResource:
    """The whole mirror of a node."""
    lent: Amounts = {
        RECLAIMED_MILLICPU: str(amounts.get(RECLAIMED_CPU, 0)),
        RECLAIMED_BYTES: str(amounts.get(RECLAIMED_MEMORY, 0)),
    }
    owner = OwnerReference(api_version="v1", kind="Node", name=node, uid=uid)
    return CustomNodeResource(
        metadata=Metadata(name=node, owner_references=(owner,) if uid else None),
        status=MirrorStatus(
            resources=Pair(allocatable=lent, capacity=lent),
            topology_policy=policy or None,
            topology_zone=_zones(machine, held) or None,
            conditions=tuple(_beaten(one, at) for one in conditions),
        ),
    )


def _zones(machine: Machine, held: Mapping[str, Hold]) -> tuple[MirrorZone, ...]:
    return tuple(
        MirrorZone(
            type="Socket",
            name=str(package),
            children=tuple(_numa(numa, held) for numa in machine.numa if numa.package == package),
        )
        for package in sorted({numa.package for numa in machine.numa})
    )


def _numa(numa: Numa, held: Mapping[str, Hold]) -> MirrorZone:
    amounts: Amounts = {CPU: f"{numa.cpu}m", MEMORY: str(numa.memory)}
    allocations = tuple(
        Allocation(consumer=f"{hold.namespace}/{hold.name}/{uid}", requests=_part(hold))
        for uid, hold in sorted(held.items())
        if numa.number in hold.zones
    )
    cards = tuple(MirrorZone(type="GPU", name=str(card)) for card in numa.cards)
    return MirrorZone(
        type="Numa",
        name=str(numa.number),
        resources=Pair(allocatable=amounts, capacity=amounts),
        attributes=(NamedValue(name="cards", value=str(len(cards))),) if cards else None,
        allocations=allocations or None,
        children=cards or None,
    )


def _part(hold: Hold) -> Amounts:
    parts = {kind: amount // len(hold.zones) for kind, amount in sorted(hold.charged.items())}
    return {kind: f"{amount}m" if kind == CPU else str(amount) for kind, amount in parts.items()}


def conditions_of(
    enforcement: NodeEnforcement | None, evicting: Evicting | None, sold: Sold | None, at: Seconds
) -> tuple[MirrorCondition, ...]:
    """Whether advice reaches the node, whether it takes guests, and whether it sells more than it has."""
    found = []
    if enforcement is not None:
        well = enforcement.stance is Stance.FOLLOWING
        found.append(_condition(READY, well, enforcement.stance, enforcement.why, enforcement.at))
    if evicting is not None:
        closed = [one for one in evicting.closed if one.until > at]
        why = "; ".join(f"{one.rule}: {one.why}" for one in closed)
        found.append(_condition(CLOSED, not closed, "evicting" if closed else "open", why, evicting.at))
    if sold is not None:
        found.append(_condition(SOLD, sold.more, "foreseen" if sold.more else "nothing", sold.why, sold.since))
    return tuple(found)


def _condition(name: str, well: bool, reason: str, why: str, at: Seconds) -> MirrorCondition:
    return MirrorCondition(
        type=name,
        status="True" if well else "False",
        reason=reason.title().replace("-", "") or "Unknown",
        message=why[:512],
        last_transition_time=moment(at),
    )


def _beaten(one: MirrorCondition, at: Seconds) -> MirrorCondition:
    return MirrorCondition(
        type=one.type,
        status=one.status,
        reason=one.reason,
        message=one.message,
        last_transition_time=one.last_transition_time,
        last_heartbeat_time=moment(at),
    )


def moment(at: Seconds) -> str:
    """Seconds since the epoch as Kubernetes writes them."""
    return datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
