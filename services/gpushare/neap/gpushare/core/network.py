"""Network cards of a node, in percent of their bandwidth, given with cards by the same ledger.

What is given must be what the workload asked: so many different cards of the fabric, of each so many percent, and no
card may give more than it has. A placement that names no network card was made by a scheduler that gives none away:
nothing is said about it. Nobody enforces the percent; what a container is told is which cards are near its GPUs:

    NCCL_IB_HCA        "=mlx5_0,mlx5_1", the RDMA devices it was given and no others

Source: requirements 000-24; NVIDIA NCCL documentation, environment variables (NCCL_IB_HCA, exact match by "=").
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from neap.common.errors import InputError
from neap.common.model.device import NetworkState
from neap.common.model.device_tree import NETWORK, WHOLE
from neap.common.model.placement import Placement
from neap.common.model.topology import Device, ZoneKind


def network_cards(devices: Iterable[Device]) -> dict[str, Device]:
    """Those that can be given, by address; virtual functions share what their physical function has."""
    return {device.address: device for device in devices if device.kind in NETWORK and not device.physical}


def given_of(placement: Placement, known: Mapping[str, Device], left: Mapping[str, int]) -> dict[str, int]:
    """Percent by address that a placement takes.

    Raises:
        InputError: why it is refused; names the network card and the numbers.
    """
    ask, taken = placement.workload.devices, dict[str, int]()
    for share in placement.devices:
        where, device = f"network card {share.address}", known.get(share.address)
        if ask is None:
            raise InputError(f"{where}: a share for a pod that asks for none")
        if device is None or device.kind not in ask.fabrics:
            raise InputError(f"{where}: the node has no such {ask.fabric.value}")
        if share.percent != ask.nic_percent:
            raise InputError(f"{where}: {share.percent} % placed, {ask.nic_percent} % asked")
        if share.address in taken:
            raise InputError(f"{where}: placed twice")
        if share.percent > left.get(share.address, WHOLE):
            raise InputError(f"{where}: {share.percent} % asked, {left.get(share.address, WHOLE)} % left")
        taken[share.address] = share.percent
    if taken and ask is not None and len(taken) != ask.nics:
        raise InputError(f"{ask.nics} network cards asked, {len(taken)} placed")
    return taken


def environment(placement: Placement, known: Mapping[str, Device]) -> dict[str, str]:
    """What the containers of a placement with cards are told of its network cards."""
    names = [
        device.names[-1] for share in placement.devices if (device := known[share.address]).names and _is_rdma(device)
    ]
    return {"NCCL_IB_HCA": f"={','.join(names)}"} if names else {}


def network_states(given: Mapping[str, Mapping[str, int]], known: Mapping[str, Device]) -> tuple[NetworkState, ...]:
    """The cards of which something was given, from percent by uid by address."""
    return tuple(
        NetworkState(
            address=address,
            name=names[-1] if (names := known[address].names) else "",
            free=WHOLE - sum(by_uid.values()),
            given=dict(by_uid),
        )
        for address, by_uid in sorted(given.items())
        if by_uid
    )


def _is_rdma(device: Device) -> bool:
    return device.kind is ZoneKind.RDMA
