"""The advisor of one node: folds topology, placements, policy and usage; says advice, headroom and trail.

It acts on every usage report, on every placement (then nobody gives anything back), and on the timer when usage
has become stale or the advice must be renewed. Until topology, ledger and its own last advice are known it only
folds. After a restart the last advice tells which CPUs everybody has, and who is known already.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from neap.advisor.core import neighbours, remembered
from neap.advisor.core.alarms import alarms
from neap.advisor.core.assign import check
from neap.advisor.core.foreseeing import Profiles
from neap.advisor.core.hearing import by_pod, hear
from neap.advisor.core.layout import Layout, layout_of
from neap.advisor.core.lending import Lending, cpu_view, lend, memory_offer_view, nothing
from neap.advisor.core.memory import Facts, MemoryPlan, capacity_of, memory_view, plan_memory
from neap.advisor.core.mind import Mind
from neap.advisor.core.plan import Plan, Round, plan
from neap.advisor.core.pod import Pod, Track
from neap.advisor.core.policy import HeadroomView, Policy
from neap.advisor.core.refusing import refuse
from neap.advisor.core.saying import Saying
from neap.advisor.core.tuning import chosen, tunable, tune_tracks
from neap.advisor.core.waking import (
    AskReports,
    Waking,
    go_back,
    go_on,
    hold_to,
    most_of,
    offer_again,
    take_over,
    told_now,
)
from neap.advisor.metrics import IGNORED, STALE
from neap.advisor.settings import Settings
from neap.common.contract.catalogue import ADVICE, APART, HEADROOM, PLACEMENTS, PROFILES
from neap.common.errors import InputError
from neap.common.model.advice import Headroom, NodeAdvice
from neap.common.model.apart import Apart
from neap.common.model.placement import Checkpoint, LedgerEntry, Placed, Placement, Released, fold
from neap.common.model.profile import ServiceProfile
from neap.common.model.resource import LARGEST
from neap.common.model.topology import NodeTopology
from neap.common.model.usage import NodeUsage, Reports
from neap.common.runtime.machine import (
    Arrived,
    Count,
    Decide,
    Done,
    Event,
    Failed,
    Gone,
    Instruction,
    Put,
    Synced,
    Tick,
)
from neap.common.runtime.remembering import TellMemory
from neap.common.runtime.tuning import Tuning
from neap.common.units import Seconds, format_duration


class AdvisorMachine:
    """See module docstring."""

    def __init__(self, settings: Settings, policies: Mapping[str, Policy]) -> None:
        self._policies, self._settings = policies, settings
        self._tuning = Tuning(tunable(policies), settings, settings.node)
        self._chosen = chosen(policies, settings)
        self._tuned = 0  # the round of tuning that was taken over
        self._ready_at: Seconds | None = None
        self._topology: NodeTopology | None = None
        self._layout: Layout | None = None
        self._held: dict[str, Placement] = {}
        self._ledger = 0  # sequence of the last entry in it
        self._pods: list[Pod] = []
        self._mind, self._waking, self._saying = Mind(), Waking(), Saying()
        self._plan: Plan | None = None
        self._profiles = Profiles()

    @property
    def memory(self) -> remembered.Memory:
        """All that must not be forgotten."""
        if self._ready_at is None or self._waking.is_asking:
            return self._waking.memory
        mind = replace(self._mind, heard=self._mind.heard or self._waking.heard)
        seq, provision = self._saying.seq, self._settings.provision
        return remembered.memory_of(mind, seq=seq, provision=provision, ledger=self._ledger)

    def recall(self, memory: remembered.Memory, at: Seconds) -> None:
        """See Mindful."""
        self._waking.recall(memory, at, self._patience)
        self._mind.neighbours = neighbours.together(memory.neighbours, self._mind.neighbours)

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
                return self._tick(event.at)
            case Arrived(message=Placed() | Released() | Checkpoint() as entry, seq=seq):
                self._ledger = seq
                self._waking.entry(entry, seq)
                return self._hear_entry(event.at, entry)
            case Arrived(message=NodeTopology() as topology):
                return self._hear_topology(event.at, topology)
            case Arrived(message=NodeAdvice() as advice) if self._ready_at is None:  # else our own word comes back
                self._saying.heard(advice)
            case Arrived(message=Headroom() as said) if self._ready_at is None:
                self._waking.offered = said
            case Arrived(message=ServiceProfile() as profile, subject=subject):
                return self._profiles.learn(profile, subject)
            case Gone(channel=channel, subject=subject) if channel == PROFILES:
                self._profiles.forget(subject)
            case Arrived(message=Apart() as said):
                self._mind.neighbours = neighbours.recalled(self._mind.neighbours, said)
            case Gone(channel=channel) if channel in (ADVICE, HEADROOM) and self._ready_at is not None:
                self._forget(channel)
            case Failed(instruction=Put(key=key)):
                self._forget(key.channel)
            case Done(instruction=AskReports(), outcome=Reports() as told):
                return self._waking.page(told) or self._wake(event.at, self._waking.told)
            case Failed(instruction=AskReports(), error=error):
                return self._wake(event.at, Reports(), error)
            case Synced(channel=channel):
                self._profiles.are_read |= channel == PROFILES
                self._waking.unsynced = [other for other in self._waking.unsynced if other != channel]
                return self._start(event.at)
        return ()

    # -- what is heard ------------------------------------------------------------------------------------------------

    def _hear_usage(self, at: Seconds, usage: NodeUsage) -> Sequence[Instruction]:
        if self._ready_at is None or self._waking.is_asking:
            self._waking.report(usage)
            return ()
        before = self._mind.heard or self._waking.heard
        if not (before.usage.at if before is not None else float("-inf")) < usage.at <= at + self._patience:
            return (Count(IGNORED),)
        self._mind.heard = hear(usage, before)
        by_uid, layout, topology = by_pod(self._mind.heard.usage.containers), self._layout, self._topology
        cpus = float(len(layout.usable)) if layout is not None else float("inf")
        memory = capacity_of(topology) or LARGEST if topology is not None else LARGEST
        for uid, track in self._mind.tracks.items():
            track.observe(by_uid.get(uid, ()), self._settings.smoothing, cpus, memory)
        return self._advise(at, fresh=True)

    def _hear_entry(self, at: Seconds, entry: LedgerEntry) -> Sequence[Instruction]:
        self._held = fold(self._held, entry)
        if PLACEMENTS in self._waking.unsynced:
            return ()
        self._refresh_pods()
        return self._advise(at)

    def _refresh_pods(self) -> None:
        self._pods = [Pod.of(placement) for _, placement in sorted(self._held.items())]
        window = self._settings.peak_window
        self._mind.tracks = {pod.uid: self._mind.tracks.get(pod.uid) or Track(window) for pod in self._pods}
        tune_tracks(self._mind.tracks, self._pods, self._tuning)
        self._mind.told = {uid: told for uid, told in self._mind.told.items() if uid in self._held}

    def _hear_topology(self, at: Seconds, topology: NodeTopology) -> Sequence[Instruction]:
        try:
            layout = layout_of(topology, self._layout)
        except InputError as error:
            return refuse("topology", f"topology of {topology.node}", error)
        self._topology, self._layout = topology, layout
        return self._start(at) if self._ready_at is None else self._advise(at)

    def _tune(self) -> None:
        """Take over what policy says by now; see neap.common.runtime.tuning."""
        settings, self._tuned = self._tuning.settings, self._tuning.round
        if settings is not self._settings:
            now = chosen(self._policies, settings)
            if now.provision is not self._chosen.provision:  # another policy has another memory
                self._mind.recall = replace(self._mind.recall, pools={})
            self._settings, self._chosen = settings, now
        for pod in self._pods:
            self._mind.tracks[pod.uid].resize(settings.peak_window)
        tune_tracks(self._mind.tracks, self._pods, self._tuning)

    def _forget(self, channel: object) -> None:
        """The bus did not take it, or has it no more: say it again in the next round."""
        if channel == ADVICE:
            self._saying.lost_advice()
        elif channel == HEADROOM:
            self._saying.lost_headroom()
        elif channel == APART:
            self._mind.neighbours = neighbours.untold(self._mind.neighbours)

    # -- from one life to the next -----------------------------------------------------------------------------------

    def _start(self, at: Seconds) -> Sequence[Instruction]:
        """Once everything stored is known: take over from the earlier life, and ask for what it has missed."""
        if self._waking.unsynced or self._layout is None or self._topology is None or self._ready_at is not None:
            return ()
        self._ready_at = at
        self._refresh_pods()
        mind, settings, start, said = self._mind, self._settings, self._chosen.provision.start, list[Instruction]()
        if (advice := self._saying.advice) is not None:
            try:
                take_over(mind, advice, self._layout, settings, start)
            except InputError as error:
                self._saying.lost_advice()
                said += refuse("advice", f"last advice of {advice.node}", error)
        try:
            seq = self._saying.advice.seq if self._saying.advice is not None else 0
            go_on(mind, self._waking, most_of(self._topology, self._layout), settings, start, seq)
        except InputError as error:
            return [*said, *refuse("memory", "what an earlier life remembered", error), *self._wake(at, Reports())]
        asked = self._waking.ask()
        return [*said, *(asked or self._wake(at, Reports()))]

    def _wake(self, at: Seconds, told: Reports, gap: str = "some were before its time") -> Sequence[Instruction]:
        """The first round; before it, where all is known that was missed, that is lived again."""
        said: list[Instruction] = []
        if told.complete:
            try:
                return [*self._relive(at, told), *(self._tick(at) or self._say(at))]
            except InputError as error:
                said += refuse("memory", "what an earlier life remembered", error)
        elif self._waking.is_asking:
            said += [TellMemory("memory.gap", f"the reporter does not tell all reports since then: {gap}")]
        for usage in self._waking.over(at - self._patience):
            said += told_now(self._hear_usage(min(at, usage.at), usage), at)  # an old one is no silence
        return [*said, *self._advise(at)]

    def _relive(self, at: Seconds, told: Reports) -> Sequence[Instruction]:
        """All that was missed; which lines are still to be told of it. Advice and offers are not said before its end.

        Raises:
            InputError: what is remembered makes no sense; nothing has changed then.
        """
        assert self._layout is not None
        assert self._topology is not None
        mind, waking, settings, start = self._mind, self._waking, self._settings, self._chosen.provision.start
        memory, heard, layout, most = waking.memory, waking.heard, self._layout, most_of(self._topology, self._layout)
        assert heard is not None
        pairs = mind.neighbours.pairs
        go_back(mind, memory, most, layout, settings, start)
        advice, offered = self._saying.advice, waking.offered
        self._saying.lost_advice()  # the last one was said later
        self._held, mind.tracks, mind.heard, since = waking.held(), {}, heard, waking.since(told, advice)
        waking.over()
        self._refresh_pods()
        mind.told = remembered.pods_again(mind.tracks, memory, by_pod(heard.usage.containers), cpus=len(layout.usable))
        self._profiles.foretell(self._pods, mind.tracks, heard.usage.at, settings.believe_reports)
        said: list[Instruction] = []
        for when, happened in since:
            match happened:
                case NodeUsage():
                    said += self._tick(happened.at - settings.period)  # none may have come for long
                    said += self._hear_usage(min(at, happened.at), happened)
                case NodeAdvice():
                    hold_to(mind, happened, layout, settings, start)
                    said = []
                case Headroom():
                    offer_again(mind, happened, most)
                case Placed() | Released() | Checkpoint():  # by another's clock
                    said += self._hear_entry(max(mind.heard.usage.at, min(at, when)), happened)
        self._saying.relived(advice, offered)
        if mind.neighbours.pairs != pairs:
            mind.neighbours = neighbours.untold(mind.neighbours)
        why = f"{len(told.reports)} reports since then were lived again"
        return [TellMemory("memory.relived", why), *(line for line in said if isinstance(line, Decide))]

    # -- what is decided ----------------------------------------------------------------------------------------------

    @property
    def _patience(self) -> Seconds:
        return self._settings.stale_after * self._settings.period

    def _blind(self, at: Seconds) -> str | None:
        """Why usage cannot be trusted now; None while it can; empty while the first report may still come."""
        since = self._mind.heard.usage.at if self._mind.heard is not None else self._ready_at
        age = at - (since if since is not None else at)
        if age > self._patience:
            periods = f"{self._settings.stale_after} periods of {format_duration(self._settings.period)}"
            return f"no usage for {format_duration(age)}, more than {periods}"
        return None if self._mind.heard is not None else ""

    def _tick(self, at: Seconds) -> Sequence[Instruction]:
        """A round where none came with a report: usage is too old, or the last advice."""
        return self._advise(at) if self._blind(at) or self._saying.is_due(at) else ()

    def _advise(self, at: Seconds, *, fresh: bool = False) -> Sequence[Instruction]:
        """One round."""
        blind = self._blind(at)
        is_ready = self._ready_at is not None and not self._waking.is_asking
        if self._layout is None or self._topology is None or not is_ready or blind == "":
            return ()
        heard = self._mind.heard
        known = bool(blind) or (heard is not None and heard.known)
        fresh = fresh and known and not blind
        now = at if blind or heard is None else heard.usage.at  # as of when usage is known, and offers move
        self._profiles.foretell(self._pods, self._mind.tracks, now, self._settings.believe_reports)
        view = Round(
            self._layout,
            self._pods,
            self._mind.tracks,
            fresh=fresh,
            stale=bool(blind),
            known=known,
            promised=0 if self._mind.lending is None else self._mind.lending.most(now, self._settings.promise_horizon),
        )
        made = self._plan = plan(view, self._mind.recall, self._chosen, self._settings)
        self._mind.recall = made.recall
        if known:
            self._mind.memory = self._remember(now, made, blind, fresh=fresh)
            self._mind.lending = self._lend(now, made, blind, fresh=fresh)
        said = self._judge(now) if fresh else []
        return [*((Count(STALE),) if blind else ()), *said, *self._say(at, blind or "")]

    def _say(self, at: Seconds, blind: str = "") -> Sequence[Instruction]:
        """What the last round came to, where that is news."""
        if self._plan is None or self._layout is None:
            return ()
        mind, settings = self._mind, self._settings
        said = self._saying.advise(at, self._plan, mind, self._pods, self._layout, settings, blind)
        known = bool(blind) or (mind.heard is not None and mind.heard.known)
        return [*said, *(self._saying.offer(at, mind.lending, settings) if known and mind.lending is not None else ())]

    def _judge(self, at: Seconds) -> list[Instruction]:
        """Who disturbs whom, after one more report."""
        assert self._layout is not None
        seen = self._mind.heard.usage.containers if self._mind.heard is not None else ()
        scene = neighbours.Scene(at, self._settings.node, self._pods, self._mind.tracks, seen, self._layout)
        self._mind.neighbours, said = neighbours.judge(self._mind.neighbours, scene, self._settings.interference)
        return said

    def _remember(self, at: Seconds, made: Plan, blind: str | None, *, fresh: bool) -> MemoryPlan:
        assert self._topology is not None
        usage = None if blind or self._mind.heard is None else self._mind.heard.usage
        facts = Facts(self._topology, self._pods, self._mind.tracks, usage, made.binding)
        view = memory_view(facts, self._mind.memory, at=at, fresh=fresh, blind=blind or "")
        return plan_memory(view, self._chosen)

    def _lend(self, at: Seconds, made: Plan, blind: str | None, *, fresh: bool) -> Lending:
        settings = self._settings
        if blind or self._mind.heard is None or self._layout is None or self._topology is None:
            return nothing(f"there is {blind or 'no usage yet'}", settings, at, self._mind.lending)
        if not settings.lend:
            return nothing("lending is switched off", settings, at, self._mind.lending, stale=False)
        facts = Facts(self._topology, self._pods, self._mind.tracks, self._mind.heard.usage, made.binding)
        views: tuple[HeadroomView, ...] = (
            cpu_view(made, self._layout, self._pods, self._mind.tracks, self._mind.heard.usage),
            memory_offer_view(facts, settings),
        )
        views = self._profiles.foreseen(views, facts, at=at, horizon=settings.foresight)
        alarm = alarms(made, facts, settings)
        return lend(views, self._mind.lending, self._chosen, settings, at=at, growing=fresh, alarms=alarm)

    def validate(self) -> None:
        """The laws of the cut, re-derived."""
        if self._plan is None or self._layout is None:
            return
        check(self._plan.cut, self._layout)
        for node, uid in sorted(self._plan.binding.exclusive.items()):
            inside = self._layout.within(frozenset({node}))
            assert inside <= self._plan.cut.dedicated[uid], f"{uid} has not all of NUMA node {node}, which it has alone"
        assert self._pods == [Pod.of(self._held[uid]) for uid in sorted(self._held)], "pods differ from the ledger"
        assert set(self._mind.tracks) == set(self._held), "usage is tracked of pods that are not here"
