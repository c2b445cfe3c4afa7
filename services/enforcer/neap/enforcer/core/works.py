"""The work on the host: from what it shows to the writes, from their outcomes to what is owed and what is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from neap.common.model.advice import KnobWrite, WriteStatus
from neap.common.units import Seconds
from neap.enforcer.core.debt import Debt
from neap.enforcer.core.instruction import Apply, Observed, Originals, Outcome, Write
from neap.enforcer.core.knob import Knob, Reach, Site
from neap.enforcer.core.kubepods import Tree
from neap.enforcer.core.offload import Offload
from neap.enforcer.core.patience import Patience
from neap.enforcer.core.plan import Aim, Plan, Scene, aims_of, make_plan, to_remember
from neap.enforcer.core.story import knob_write, not_written
from neap.enforcer.core.wish import NOTHING, Wishes
from neap.enforcer.settings import Settings

DRIFT: Final = "drift"


class Works:
    """The plan under way and what it rests on. `originals` is what the restore journal held."""

    def __init__(self, settings: Settings, knobs: Mapping[str, Knob], originals: Originals) -> None:
        self._settings, self._knobs = settings, knobs
        self.debt = Debt(originals, knobs, settings.cgroup_roots)
        self.offload = Offload(settings.offload, settings.period)
        self.patience = Patience(settings.period, settings.backoff_limit)
        self.tree: Tree | None = None
        self.plan = Plan()
        self._aims: dict[Site, Aim] = {}
        self._texts: dict[Site, str | None] = {}
        self._originals: Originals = {}  # as they will be once the plan is under way
        self._still: dict[Site, tuple[str, str]] = {}  # levels that are not approached now, and why
        self._settled: Observed | None = None  # as long as the host shows this there is nothing to do

    def is_settled(self, observed: Observed) -> bool:
        """Whether the host shows what it showed when there was nothing to do."""
        return observed == self._settled

    def stir(self) -> None:
        """What is wished has changed."""
        self._settled = None

    def lay_out(self, wishes: Wishes, observed: Observed, at: Seconds, *, why: str, why_back: str) -> bool:
        """Make the plan for what the host shows; whether anything is to be written, or the journal to be changed."""
        tree = observed.tree
        assert tree is not None, "a plan needs a tree"
        self.tree, self._texts = tree, dict(observed.texts)
        gone = self.debt.look(tree, self._texts)
        self._aims = aims_of(wishes, tree, self.debt.originals, self._knobs, why=why, why_back=why_back)
        self.debt.recognise(self._aims, self._texts)
        self.patience.keep(self._aims.keys())
        scene = Scene(
            tree, self._texts, self._knobs, self.patience.still(self._aims, at), self._exclusive(wishes, tree)
        )
        self.plan = make_plan(self._aims, scene)
        for site in self.plan.refused:
            self.patience.refused(site, self._aims[site].text, at)
        self._originals = to_remember(self.plan, scene, self.debt.originals)
        steps, self._still = self.offload.writes(tree, self._texts, at)
        self.plan.loose += steps
        self._name_drift()
        if self.plan.ordered or self.plan.loose or gone or len(self._originals) != len(self.debt.originals):
            return True
        self._settled = None if self.patience.refused_any or self.offload.orders else observed
        return False

    def put_back_blindly(self) -> bool:
        """The plan that gives everything back although the host could not be looked at; whether there is any."""
        if not self.debt.originals:
            return False
        roots, owed = self._settings.cgroup_roots, self.debt.originals
        root = next((root for site in owed for root in roots if site.cgroup.startswith(root)), roots[0])
        self._aims = aims_of(NOTHING, tree := self.tree or Tree(root, {}, {}), self.debt.originals, self._knobs,
                             why="", why_back="enforcer stops")  # fmt: skip
        self.plan = make_plan(self._aims, Scene(tree, self._texts, self._knobs, blind=True))
        self._originals, self._still = dict(self.debt.originals), {}
        return True

    def apply(self, serial: int) -> Apply:
        """The plan as an instruction; from now on what it changes is owed."""
        self._settled = None
        self.debt.originals = dict(self._originals)
        return Apply(serial, dict(self._originals), tuple(self.plan.ordered), tuple(self.plan.loose))

    def settle(self, asked: Apply, outcomes: Sequence[Outcome], at: Seconds) -> list[KnobWrite]:
        """Keep account of what became of the writes, and tell it."""
        self.debt.settle(asked.writes, tuple(outcomes))
        last = {write.site: number for number, write in enumerate(asked.writes)}
        told = []
        for number, (write, outcome) in enumerate(zip(asked.writes, outcomes, strict=True)):
            if write.restores and outcome.kept is not None:
                write = write._replace(text=outcome.kept)  # noqa: PLW2901  what stands instead
            is_level = self._knobs[write.site.file].reach is Reach.LEVEL
            if is_level and self.tree is not None:
                self.offload.written(self.tree, write, outcome)
            elif number == last[write.site]:
                outcome = self._checked(write, outcome)  # noqa: PLW2901  what the kernel made of it
                self._be_patient(write, outcome, at)
            told.append(knob_write(write, outcome))
        return told

    def not_done(self) -> list[KnobWrite]:
        """What this plan leaves out, and why."""
        told = [
            not_written(site, self._aims[site].text, WriteStatus.REFUSED, why)
            for site, why in self.plan.refused.items()
        ]
        still = self._still.items()
        return told + [not_written(site, level, WriteStatus.REFUSED, why) for site, (level, why) in still]

    def lacked(self) -> dict[str, Site]:
        """Files that a cgroup does not have, each with one such cgroup; one that went away while it was read has none."""
        missing = self.plan.unsupported
        alive = {site.cgroup for site, text in self._texts.items() if text is not None} if missing else frozenset()
        return {site.file: site for site in reversed(missing) if site.cgroup in alive}

    def text_for(self, site: Site) -> str:
        """What a site should show."""
        return self._aims[site].text

    def _exclusive(self, wishes: Wishes, tree: Tree) -> frozenset[str]:
        prefixes = self._settings.exclusive_pools
        paths = (tree.path_of(cgroup.target) for cgroup in wishes.cgroups if cgroup.pool.startswith(prefixes))
        return frozenset(path for path in paths if path is not None)

    def _name_drift(self) -> None:
        """What only puts back what was true already is called drift."""
        for writes in (self.plan.ordered, self.plan.loose):
            for number, write in enumerate(writes):
                aim = self._aims.get(write.site)
                if aim is not None and self.debt.is_drift(write._replace(text=aim.text)):
                    writes[number] = write._replace(why=DRIFT)

    def _checked(self, write: Write, outcome: Outcome) -> Outcome:
        """A value that the kernel took and shows differently was not taken."""
        kept, knob = outcome.kept, self._knobs[write.site.file]
        if outcome.status is not WriteStatus.WRITTEN or kept is None or write.restores or knob.same(write.text, kept):
            return outcome
        return outcome._replace(status=WriteStatus.REFUSED, why=f"the kernel keeps {kept.strip()[:80]!r}")

    def _be_patient(self, write: Write, outcome: Outcome, at: Seconds) -> None:
        if outcome.status is WriteStatus.WRITTEN:
            self.patience.accepted(write.site)
        elif outcome.status is not WriteStatus.VANISHED and write.site in self._aims:
            self.patience.refused(write.site, self._aims[write.site].text, at)
