"""gpushare of one node: folds topology and ledger, says who has what of which card.

The device state is a function of the cards and of the placements in ledger order, worked out anew on every change
and told when it differs from what was told last. Nothing is said before the ledger was read to its end and the
node's topology is known: a card not yet heard of is unknown, not missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from neap.common.contract.catalogue import DEVICES, PLACEMENTS, TOPOLOGY
from neap.common.model.device import DeviceState
from neap.common.model.device_tree import WHOLE
from neap.common.model.placement import Checkpoint, Placed, Placement, Released, fold
from neap.common.model.topology import Card, Device, NodeTopology
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.runtime.machine import Arrived, Count, Decide, Event, Failed, Gone, Instruction, Put, Synced, Tick
from neap.common.telemetry.span import object_context
from neap.common.units import Seconds
from neap.gpushare.core.share import Shares, share_out
from neap.gpushare.settings import Settings

SOURCE = "gpushare"


class GpushareMachine:
    """See module docstring."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._held: dict[str, Placement] = {}  # in ledger order
        self._seq = 0
        self._cards: tuple[Card, ...] | None = None
        self._devices: tuple[Device, ...] = ()
        self._synced = False
        self._judged: dict[str, int] = {}  # uid -> attempt whose outcome was told, or came before we listened
        self._shares = Shares((), {}, {})
        self._told: DeviceState | None = None

    def handle(self, event: Event) -> Sequence[Instruction]:
        """Fold, share out, tell."""
        match event:
            case Arrived(message=NodeTopology(cards=cards, devices=devices)):
                self._cards, self._devices = cards, devices
            case Gone(channel=channel) if channel == TOPOLOGY:
                self._cards = None
            case Arrived(message=Placed() | Released() | Checkpoint() as entry, seq=seq):
                if seq <= self._seq:
                    return ()
                self._held, self._seq = fold(self._held, entry), seq
            case Synced(channel=channel) if channel == PLACEMENTS and not self._synced:
                self._synced = True
                self._judged = {uid: placement.workload.attempt for uid, placement in self._held.items()}
            case Failed(instruction=Put()):
                self._told = None
                return ()
            case Tick(name="tell"):
                pass
            case _:
                return ()
        return self._tell(event.at)

    def tune(self, settings: Settings, at: Seconds) -> Sequence[Instruction]:
        """What bounds a slice may have changed."""
        self._settings = settings
        return self._tell(at)

    def validate(self) -> None:
        """No card is given twice, and what is left is what was not given."""
        for state in self._shares.cards:
            shares = [allocation.share for allocation in state.allocations]
            assert state.core_free == 100 - sum(share.core for share in shares) >= 0, state
            assert state.memory_free_mib == state.card.memory_mib - sum(share.memory_mib for share in shares) >= 0, (
                state
            )
        for network in self._shares.networks:
            assert network.free == WHOLE - sum(network.given.values()) >= 0, network
        assert not set(self._shares.accepted) & set(self._shares.refused)

    def _tell(self, at: Seconds) -> list[Instruction]:
        if not self._synced or self._cards is None:
            return []
        self._shares = share_out(self._cards, self._held.values(), mps=self._settings.mps, devices=self._devices)
        out = self._judgements(at)
        state = DeviceState(
            at=at,
            source=SOURCE,
            node=self._settings.node,
            ledger_seq=self._seq,
            cards=self._shares.cards,
            networks=self._shares.networks,
            refused=self._shares.refused,
        )
        before = self._told
        told = None if before is None else (before.cards, before.networks, before.refused)
        changed = told != (state.cards, state.networks, state.refused)
        if changed and (state.cards or state.networks or state.refused or before is not None):
            self._told = state
            out.append(Put(DEVICES.at(node=state.node), state))
        return out

    def _judgements(self, at: Seconds) -> list[Instruction]:
        """Trail lines about placements that were not judged before."""
        out: list[Instruction] = []
        for uid, placement in self._held.items():
            if self._judged.get(uid) == placement.workload.attempt:
                continue
            self._judged[uid] = placement.workload.attempt
            if uid in self._shares.refused:
                out.append(Count("neap_gpushare_refused_total"))
                out.append(self._line(placement, "gpu refused", self._shares.refused[uid], at))
            elif uid in self._shares.accepted:
                out.append(Count("neap_gpushare_assigned_total"))
                out.append(self._line(placement, "gpu assigned", self._assigned_why(uid), at))
        self._judged = {uid: attempt for uid, attempt in self._judged.items() if uid in self._held}
        return out

    def _assigned_why(self, uid: str) -> str:
        left = {state.card.index: state for state in self._shares.cards}
        cards = [
            f"{share.container}: {share.core} % and {share.memory_mib} MiB of card {share.card}"
            f" ({left[share.card].card.model}, now {left[share.card].core_free} % and"
            f" {left[share.card].memory_free_mib} MiB left), {allocation.enforced}"
            for allocation in self._shares.accepted[uid]
            for share in (allocation.share,)
        ]
        networks = [
            f"{state.given[uid]} % of network card {state.name or state.address} (now {state.free} % left), accounted-only"
            for state in self._shares.networks
            if uid in state.given
        ]
        return "; ".join(cards + networks)

    def _line(self, placement: Placement, what: str, why: str, at: Seconds) -> Decide:
        workload = placement.workload
        about = ObjectRef(namespace=workload.namespace, name=workload.name, uid=workload.uid)
        id = f"{workload.uid}.{workload.attempt}.{what.replace(' ', '-')}"
        entry = TrailEntry(
            at=at,
            source=SOURCE,
            id=id,
            about=about,
            what=what,
            why=why,
            node=self._settings.node,
            trace=object_context(about).trace,
            cause=f"{workload.uid}.{workload.attempt}.placed",
            parent=workload.owner,
        )
        return Decide(entry)
