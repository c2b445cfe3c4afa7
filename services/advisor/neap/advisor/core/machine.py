"""The advisor of one node: folds topology, placements, policy and usage; says advice, headroom and trail.

It acts on every usage report, on every placement (then nobody gives anything back), and on the timer when usage
has become stale or the advice must be renewed. Until topology, ledger and its own last advice are known it only
folds. After a restart the last advice tells which CPUs everybody has, and who is known already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from neap.advisor.core import neighbours, remembered
from neap.advisor.core.alarms import alarms
from neap.advisor.core.assign import check
from neap.advisor.core.foreseeing import Profiles
from neap.advisor.core.hearing import Heard, hear
from neap.advisor.core.knobs import Limits, cgroups, with_mems
from neap.advisor.core.layout import Layout, layout_of
from neap.advisor.core.lending import Lending, cpu_view, lend, memory_offer_view, nothing
from neap.advisor.core.memory import Facts, MemoryPlan, advised, capacity_of, memory_view, plan_memory
from neap.advisor.core.plan import Plan, Recall, Round, adopt, plan, pools
from neap.advisor.core.pod import Pod, Track
from neap.advisor.core.policy import HeadroomView, Policy
from neap.advisor.core.refusing import refuse
from neap.advisor.core.story import Scene, Told, tell
from neap.advisor.core.tuning import chosen, tunable, tune_tracks
from neap.advisor.metrics import ADVICE as ADVISED
from neap.advisor.metrics import IGNORED, STALE
from neap.advisor.settings import Settings
from neap.common.contract.catalogue import ADVICE, APART, HEADROOM, NODES, PLACEMENTS, POLICY, PROFILES, TOPOLOGY
from neap.common.contract.channel import Channel
from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.apart import Apart
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released, fold
from neap.common.model.profile import ServiceProfile
from neap.common.model.resource import LARGEST, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import ContainerUsage, NodeUsage
from neap.common.runtime.machine import Arrived, Count, Decide, Event, Failed, Gone, Instruction, Put, Synced, Tick
from neap.common.runtime.tuning import Tuning
from neap.common.units import Seconds, format_duration

NAME: Final = "advisor"
STORED: Final = (TOPOLOGY, PLACEMENTS, ADVICE, HEADROOM, POLICY, NODES)  # what must be known before anything is decided


class AdvisorMachine:
    """See module docstring."""

    def __init__(self, settings: Settings, policies: Mapping[str, Policy]) -> None:
        self._policies, self._settings = policies, settings
        self._tuning = Tuning(tunable(policies), settings, settings.node)
        self._chosen = chosen(policies, settings)
        self._tuned = 0  # the round of tuning that was taken over
        self._unsynced: list[Channel[Any]] = [*STORED]
        self._ready_at: Seconds | None = None
        self._topology: NodeTopology | None = None
        self._layout: Layout | None = None
        self._held: dict[str, Placement] = {}
        self._pods: list[Pod] = []
        self._tracks: dict[str, Track] = {}
        self._heard: Heard | None = None
        self._recall = Recall()
        self._plan: Plan | None = None
        self._memory = MemoryPlan()
        self._neighbours = neighbours.Neighbourhood()
        self._narrowed: frozenset[str] = frozenset()  # targets with memory nodes in the last advice
        self._seq = 0
        self._advice: NodeAdvice | None = None  # the last one said, by this or an earlier life
        self._said: object = None  # what it was made of; equal parts make equal advice
        self._lending: Lending | None = None  # the last one computed
        self._headroom: tuple[Seconds, Lending] | None = None  # the last one said
        self._offered: Headroom | None = None  # said by an earlier life
        self._told: dict[str, Told] = {}
        self._profiles = Profiles()
        self._earlier = remembered.Memory()  # what an earlier life knew
        self._heard_before: Heard | None = None  # what it heard

    @property
    def memory(self) -> remembered.Memory:
        """All that must not be forgotten."""
        if self._ready_at is None:
            return self._earlier
        near, provision = neighbours.kept(self._neighbours), self._settings.provision
        parts = (self._tracks, self._recall, self._lending, near, self._told, self._heard or self._heard_before)
        return remembered.memory_of(*parts, seq=self._seq, provision=provision, moved=self._memory.moved)

    def recall(self, memory: remembered.Memory, at: Seconds) -> None:
        """See Mindful; it is made use of once everything stored is known."""
        remembered.check_memory(memory)
        self._earlier, heard = memory, remembered.heard_before(memory)
        if heard is not None and heard.usage.at <= at + self._patience:
            is_old = heard.usage.at < at - self._patience  # others may have come since
            self._heard_before = replace(heard, known=heard.known and not is_old)
        self._neighbours = neighbours.together(memory.neighbours, self._neighbours)

    def handle(self, event: Event) -> Sequence[Instruction]:
        """The only mutator."""
        said = self._tuning.hear(event)
        if self._tuning.round != self._tuned:
            self._tune()
        return [*said, *self._heed(event)]

    def _heed(self, event: Event) -> Sequence[Instruction]:
        match event:
            case Arrived(message=NodeUsage() as usage):
                return self._hear_usage(event.at, usage)
            case Tick(name="advise"):
                return self._advise(event.at) if self._is_due(event.at) else ()
            case Arrived(message=Placed() | Released() | Checkpoint() as entry):
                return self._hear_entry(event.at, entry)
            case Arrived(message=NodeTopology() as topology):
                return self._hear_topology(event.at, topology)
            case Arrived(message=NodeAdvice() as advice):
                self._hear_advice(advice)
            case Arrived(message=Headroom() as said):
                self._offered = said if self._ready_at is None else None
            case Arrived(message=ServiceProfile() as profile, subject=subject):
                return self._profiles.learn(profile, subject)
            case Gone(channel=channel, subject=subject) if channel == PROFILES:
                self._profiles.forget(subject)
            case Arrived(message=Apart() as said):
                self._neighbours = neighbours.recalled(self._neighbours, said)
            case Gone(channel=channel) if channel == ADVICE and self._ready_at is not None:
                self._advice = None
            case Failed(instruction=Put(key=key)):
                self._forget(key.channel)
            case Synced(channel=channel):
                self._unsynced = [other for other in self._unsynced if other != channel]
                return self._start(event.at)
        return ()

    # -- what is heard ------------------------------------------------------------------------------------------------

    def _hear_usage(self, at: Seconds, usage: NodeUsage) -> Sequence[Instruction]:
        before = self._heard or self._heard_before
        if not (before.usage.at if before is not None else float("-inf")) < usage.at <= at + self._patience:
            return (Count(IGNORED),)
        self._heard = hear(usage, before)
        by_uid: dict[str, list[ContainerUsage]] = {}
        for container in self._heard.usage.containers:
            by_uid.setdefault(container.uid, []).append(container)
        layout, topology = self._layout, self._topology
        cpus = float(len(layout.usable)) if layout is not None else float("inf")
        memory = capacity_of(topology) or LARGEST if topology is not None else LARGEST
        for uid, track in self._tracks.items():
            track.observe(by_uid.get(uid, ()), self._settings.smoothing, cpus, memory)
        return self._advise(at, fresh=True)

    def _hear_entry(self, at: Seconds, entry: LedgerEntry) -> Sequence[Instruction]:
        self._held = fold(self._held, entry)
        if PLACEMENTS in self._unsynced:
            return ()
        self._refresh_pods()
        return self._advise(at)

    def _refresh_pods(self) -> None:
        self._pods = [Pod.of(placement) for _, placement in sorted(self._held.items())]
        window = self._settings.peak_window
        self._tracks = {pod.uid: self._tracks.get(pod.uid) or Track(window) for pod in self._pods}
        tune_tracks(self._tracks, self._pods, self._tuning)
        self._told = {uid: told for uid, told in self._told.items() if uid in self._held}

    def _hear_topology(self, at: Seconds, topology: NodeTopology) -> Sequence[Instruction]:
        try:
            layout = layout_of(topology, self._layout)
        except InputError as error:
            return refuse("topology", f"topology of {topology.node}", error)
        self._topology, self._layout = topology, layout
        return self._start(at) if self._ready_at is None else self._advise(at)

    def _hear_advice(self, advice: NodeAdvice) -> None:
        """Our own words come back; only those of an earlier life are news."""
        self._seq = max(self._seq, advice.seq)
        if self._ready_at is None:
            self._advice = advice

    def _tune(self) -> None:
        """Take over what policy says by now; see neap.common.runtime.tuning."""
        settings, self._tuned = self._tuning.settings, self._tuning.round
        if settings is not self._settings:
            now = chosen(self._policies, settings)
            if now.provision is not self._chosen.provision:  # another policy has another memory
                self._recall = replace(self._recall, pools={})
            self._settings, self._chosen = settings, now
        for pod in self._pods:
            self._tracks[pod.uid].resize(settings.peak_window)
        tune_tracks(self._tracks, self._pods, self._tuning)

    def _forget(self, channel: object) -> None:
        """The bus did not take it: say it again in the next round."""
        if channel == ADVICE:
            self._advice = None
        elif channel == HEADROOM:
            self._headroom = None
        elif channel == APART:
            self._neighbours = neighbours.untold(self._neighbours)

    def _start(self, at: Seconds) -> Sequence[Instruction]:
        """Once everything stored is known: take over from the earlier life."""
        if self._unsynced or self._layout is None or self._ready_at is not None:
            return ()
        self._ready_at = at
        self._refresh_pods()
        said = self._take_over(self._advice, self._layout) if self._advice is not None else ()
        return [*said, *self._go_on(self._earlier, self._layout), *self._advise(at)]

    def _take_over(self, advice: NodeAdvice, layout: Layout) -> Sequence[Instruction]:
        """CPUs stay where they are; whoever was advised before is known and has been told."""
        start = self._chosen.provision.start
        try:
            self._recall = adopt(advice, layout, self._settings.calm_rounds, start, behind=self._settings.overlap)
        except InputError as error:
            self._advice = None
            return refuse("advice", f"last advice of {advice.node}", error)
        self._memory = MemoryPlan(advised(advice))
        self._narrowed = with_mems(advice.cgroups)
        for cgroup in advice.cgroups:
            uid = cgroup.target.removeprefix("pod/")
            if uid in self._tracks:
                self._tracks[uid].reports = self._settings.settle
                self._told[uid] = Told(advice.at, len(parse_cpuset(cgroup.knobs.cpus or "")))
        return ()

    def _go_on(self, memory: remembered.Memory, layout: Layout) -> Sequence[Instruction]:
        """Put what an earlier life knew on top of what the last advice tells; of pods and pools that are still here."""
        start, seq = self._chosen.provision.start, self._advice.seq if self._advice is not None else 0
        try:
            self._recall = remembered.pools_again(
                self._recall, memory, start, seq=seq, provision=self._settings.provision
            )
        except InputError as error:
            return refuse("memory", "what an earlier life remembered", error)
        assert self._topology is not None
        self._told |= remembered.pods_again(self._tracks, memory)
        self._memory = replace(self._memory, moved=memory.moved)
        most = {RECLAIMED_CPU: 1000 * len(layout.usable), RECLAIMED_MEMORY: capacity_of(self._topology)}
        self._lending = remembered.lending_again(memory, self._offered, most)
        self._earlier = remembered.Memory()
        return ()

    # -- what is decided ----------------------------------------------------------------------------------------------

    @property
    def _patience(self) -> Seconds:
        return self._settings.stale_after * self._settings.period

    def _blind(self, at: Seconds) -> str | None:
        """Why usage cannot be trusted now; None while it can; empty while the first report may still come."""
        since = self._heard.usage.at if self._heard is not None else self._ready_at
        age = at - (since if since is not None else at)
        if age > self._patience:
            periods = f"{self._settings.stale_after} periods of {format_duration(self._settings.period)}"
            return f"no usage for {format_duration(age)}, more than {periods}"
        return None if self._heard is not None else ""

    def _is_due(self, at: Seconds) -> bool:
        advice = self._advice
        return bool(self._blind(at)) or (advice is not None and at >= (advice.at + advice.expires) / 2)

    def _advise(self, at: Seconds, *, fresh: bool = False) -> Sequence[Instruction]:
        """One round."""
        blind = self._blind(at)
        if self._layout is None or self._topology is None or self._ready_at is None or blind == "":
            return ()
        known = bool(blind) or (self._heard is not None and self._heard.known)
        fresh = fresh and known and not blind
        self._profiles.foretell(self._pods, self._tracks, at, self._settings.believe_reports)
        view = Round(
            self._layout,
            self._pods,
            self._tracks,
            fresh=fresh,
            stale=bool(blind),
            known=known,
            promised=0 if self._lending is None else self._lending.most(at, self._settings.promise_horizon),
        )
        made = self._plan = plan(view, self._recall, self._chosen, self._settings)
        self._recall = made.recall
        if known:
            self._memory = self._remember(at, made, blind, fresh=fresh)
            self._lending = self._lend(at, made, blind, fresh=fresh)
        said = self._judge(at) if fresh else []
        said += [*self._say_advice(at, made, blind or ""), *(self._say_headroom(at) if known else ())]
        return [Count(STALE), *said] if blind else said

    def _judge(self, at: Seconds) -> list[Instruction]:
        """Who disturbs whom, after one more report."""
        assert self._layout is not None
        seen = self._heard.usage.containers if self._heard is not None else ()
        scene = neighbours.Scene(at, self._settings.node, self._pods, self._tracks, seen, self._layout)
        self._neighbours, said = neighbours.judge(self._neighbours, scene, self._settings.interference)
        return said

    def _remember(self, at: Seconds, made: Plan, blind: str | None, *, fresh: bool) -> MemoryPlan:
        assert self._topology is not None
        usage = None if blind or self._heard is None else self._heard.usage
        facts = Facts(self._topology, self._pods, self._tracks, usage, made.binding)
        view = memory_view(facts, self._memory, at=at, fresh=fresh, blind=blind or "")
        return plan_memory(view, self._chosen)

    def _lend(self, at: Seconds, made: Plan, blind: str | None, *, fresh: bool) -> Lending:
        settings = self._settings
        if blind or self._heard is None or self._layout is None or self._topology is None:
            return nothing(f"there is {blind or 'no usage yet'}", settings, at, self._lending)
        if not settings.lend:
            return nothing("lending is switched off", settings, at, self._lending, stale=False)
        facts = Facts(self._topology, self._pods, self._tracks, self._heard.usage, made.binding)
        views: tuple[HeadroomView, ...] = (
            cpu_view(made, self._layout, self._pods, self._tracks, self._heard.usage),
            memory_offer_view(facts, settings),
        )
        views = self._profiles.foreseen(views, facts, at=at, horizon=settings.foresight)
        alarm = alarms(made, facts, settings)
        return lend(views, self._lending, self._chosen, settings, at=at, growing=fresh, alarms=alarm)

    def _say_advice(self, at: Seconds, made: Plan, stale: str) -> Sequence[Instruction]:
        """Nothing, unless something on the node would change or the last advice is half through its life."""
        assert self._layout is not None
        settings, last = self._settings, self._advice
        cap = None if self._lending is None else self._lending.cap
        noisy, curbs = neighbours.noisy(self._neighbours), neighbours.held(self._neighbours)
        parts = (self._memory.knobs, self._pods, settings, self._layout, bool(stale), cap)
        matter = (made.cut, made.binding, *parts, noisy, curbs)
        changed = last is None or matter != self._said
        if last is not None and not changed and at < (last.at + last.expires) / 2:
            return ()
        targets = cgroups(self._pods, made, self._memory, self._layout, settings, Limits(self._narrowed, cap, curbs))
        self._narrowed = with_mems(targets)
        advice = NodeAdvice(
            at=at,
            source=NAME,
            node=settings.node,
            seq=max(int(at * 1000), self._seq + 1),
            expires=at + settings.ttl * settings.period,
            pools=pools(made, self._layout, self._memory.reason),
            cgroups=targets,
            stale=stale,
            noisy=noisy,
        )
        if last is not None and self._said is None:  # by an earlier life
            changed = (last.cgroups, _sizes(last)) != (advice.cgroups, _sizes(advice))
        self._advice, self._said, self._seq = advice, matter, advice.seq
        lines = self._tell(advice, made) if changed else ()
        why = "changed" if changed else "renewed"
        return (Put(ADVICE.at(node=advice.node), advice), Count(ADVISED, labels={"why": why}), *lines)

    def _say_headroom(self, at: Seconds) -> Sequence[Instruction]:
        now = self._lending
        assert now is not None
        if self._headroom is not None:
            said_at, last = self._headroom
            if not now.differs(last, self._settings.publish_change) and at - said_at < self._refresh:
                return ()
        self._headroom = (at, now)
        node = self._settings.node
        said = Headroom(
            at=at,
            source=NAME,
            node=node,
            offer=now.offer,
            arithmetic=now.arithmetic,
            survival=now.survival(self._settings),
            promised=now.promised(self._settings),
            stale=now.stale,
        )
        return (Put(HEADROOM.at(node=node), said),)

    @property
    def _refresh(self) -> Seconds:
        return self._settings.refresh * self._settings.period

    def _tell(self, advice: NodeAdvice, made: Plan) -> Sequence[Instruction]:
        offered = self._lending.told(self._settings) if self._lending is not None else "not all usage known yet"
        scene = Scene(advice, made.cpus_of, offered, made.binding.notes)
        settings = self._settings
        pause = settings.squeeze_every * settings.period
        return [Decide(line) for line in tell(scene, self._pods, self._told, loss=settings.squeeze, pause=pause)]

    def validate(self) -> None:
        """The laws of the cut, re-derived."""
        if self._plan is None or self._layout is None:
            return
        check(self._plan.cut, self._layout)
        for node, uid in sorted(self._plan.binding.exclusive.items()):
            inside = self._layout.within(frozenset({node}))
            assert inside <= self._plan.cut.dedicated[uid], f"{uid} has not all of NUMA node {node}, which it has alone"
        assert self._pods == [Pod.of(self._held[uid]) for uid in sorted(self._held)], "pods differ from the ledger"
        assert set(self._tracks) == set(self._held), "usage is tracked of pods that are not here"


def _sizes(advice: NodeAdvice) -> dict[str, str]:
    return {pool.name: pool.cpus for pool in advice.pools}
