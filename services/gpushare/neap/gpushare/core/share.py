"""Who has what of which card, derived from a node's placements in ledger order.

A placement is accepted whole or refused whole. It is refused when its asks break a rule, when its shares are not
what its containers asked for, or when a card has not enough left; an accepted share is never taken back by a later
one. What a container is told (per container, not per pod):

    CUDA_VISIBLE_DEVICES                 uuids of its cards
    CUDA_MPS_ACTIVE_THREAD_PERCENTAGE    percent of the card's threads             a slice only
    CUDA_MPS_PINNED_DEVICE_MEM_LIMIT     "0=<n>M", 0 being its first visible card   a slice only

    NCCL_IB_HCA                          its RDMA devices, if the pod was given some (see network)

The two MPS variables bound a container only where an MPS daemon runs; without one they are inert and the share is
`accounted-only`. MPS rounds the percentage to what the card supports and memory to its pages: accounting is exact,
enforcement is not.
Source: requirements 2.3 (rules, enforcement ladder); NVIDIA, Multi-Process Service, environment variables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from neap.common.errors import InputError
from neap.common.model.device import Allocation, CardState, Enforcement, NetworkState
from neap.common.model.device_tree import WHOLE
from neap.common.model.gpu import CardRoom, GpuAsk, empty_rooms, gpu_asks, short_of_card
from neap.common.model.placement import GpuShare, Placement
from neap.common.model.topology import Card, Device
from neap.gpushare.core.network import environment, given_of, network_cards, network_states


class Shares(NamedTuple):
    """All cards of a node, the allocations on them, who was refused for which reason, and network cards in use."""

    cards: tuple[CardState, ...]
    accepted: dict[str, tuple[Allocation, ...]]  # by uid; nothing of a card for who was given network cards only
    refused: dict[str, str]  # by uid
    networks: tuple[NetworkState, ...] = ()


def share_out(
    cards: Sequence[Card], placements: Iterable[Placement], *, mps: bool, devices: Iterable[Device] = ()
) -> Shares:
    """Accept or refuse each placement, first come first served. Cost: O(shares)."""
    rooms = {room.index: room for room in empty_rooms(cards)}
    by_index = {card.index: card for card in cards}
    known, networks = network_cards(devices), dict[str, dict[str, int]]()
    accepted: dict[str, tuple[Allocation, ...]] = {}
    refused: dict[str, str] = {}
    for placement in placements:
        uid = placement.workload.uid
        try:
            left = {address: WHOLE - sum(by_uid.values()) for address, by_uid in networks.items()}
            taken, parts = _accept(placement, rooms), given_of(placement, known, left)
        except InputError as error:
            refused[uid] = str(error)
            continue
        rooms |= taken
        for address, percent in parts.items():
            networks.setdefault(address, {})[uid] = percent
        if placement.gpus or parts:
            accepted[uid] = _allocations(placement, by_index, environment(placement, known), mps=mps)
    states = tuple(
        CardState(
            card=card,
            core_free=rooms[card.index].core_free,
            memory_free_mib=rooms[card.index].memory_free_mib,
            allocations=tuple(a for given in accepted.values() for a in given if a.share.card == card.index),
        )
        for card in cards
    )
    return Shares(states, accepted, refused, network_states(networks, known))


def _accept(placement: Placement, rooms: Mapping[int, CardRoom]) -> dict[int, CardRoom]:
    """The rooms its shares leave.

    Raises:
        InputError: why it is refused; names container, card and the short dimension.
    """
    asks = {ask.container: ask for ask in gpu_asks(placement.workload)}
    given: dict[str, int] = dict.fromkeys(asks, 0)
    left: dict[int, CardRoom] = {}
    for share in placement.gpus:
        where = f"container {share.container}, card {share.card}"
        ask = asks.get(share.container)
        if ask is None:
            raise InputError(f"{where}: a share for a container that asks for no GPU")
        room = left.get(share.card) or rooms.get(share.card)
        if room is None:
            raise InputError(f"{where}: the node has no such card")
        _same(share, ask, room, where)
        short = short_of_card(room, ask)
        if short:
            raise InputError(f"{where}: {short}")
        left[share.card] = room.take(share)
        given[share.container] += 1
    for container, count in given.items():
        if count != asks[container].cards:
            raise InputError(f"container {container}: {asks[container].cards} cards asked, {count} placed")
    return left


def _same(share: GpuShare, ask: GpuAsk, room: CardRoom, where: str) -> None:
    memory = room.memory_mib if ask.whole else ask.memory_mib
    if (share.core, share.memory_mib) != (ask.core, memory):
        got = f"{share.core} % and {share.memory_mib} MiB placed"
        raise InputError(f"{where}: {got}, {ask.core} % and {memory} MiB asked")


def _allocations(
    placement: Placement, cards: Mapping[int, Card], more: Mapping[str, str], *, mps: bool
) -> tuple[Allocation, ...]:
    whole = {ask.container: ask.whole for ask in gpu_asks(placement.workload)}
    allocations = []
    for share in placement.gpus:
        own = [other.card for other in placement.gpus if other.container == share.container]
        told = {"CUDA_VISIBLE_DEVICES": ",".join(cards[index].uuid for index in own), **more}
        rung = Enforcement.WHOLE
        if not whole[share.container]:
            told["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(share.core)
            told["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = f"0={share.memory_mib}M"
            rung = Enforcement.MPS if mps else Enforcement.ACCOUNTED_ONLY
        uid = placement.workload.uid
        allocations.append(Allocation(uid=uid, share=share, enforced=rung, environment=told))
    return tuple(allocations)
