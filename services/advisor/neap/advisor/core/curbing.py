"""What is done about a guest that seems to disturb an owner: held back, and by that either proved or acquitted.

    curbed     quota = max(least_quota, cut × cores it used); after `trial` reports:
                 relieved (what was too much fell by `relief`): it is proved; if the owner suffers still: cut again
                 not relieved after `tries` cuts: it was not the reason; let go, and not suspected for `watch` reports
    let go     the owner was well for `calm` reports on end, twice as many after each lapse: the quota is lifted
    should go  at the least quota for `grace` reports with relief, and the owner suffers still; or held back again
               `lapses` times within `watch` reports. Whether it does is the evictor's to say
    a pair     whoever lapsed or should go: what made it better once may have been chance

What the owner feels while it is unknown changes nothing. Every quota is lifted in the end: by calm, by acquittal, or
because one of the two is gone. At the disk it is weight as well; a weight that was taken back is said for `watch`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from neap.advisor.core.interference import Feeling, Interference
from neap.common.units import Cores


class Step(StrEnum):
    """Where a case stands."""

    CURBED = "curbed"
    PROVED = "proved"  # let go, and a lapse counts
    INNOCENT = "innocent"  # let go, and not suspected again for a while


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One guest under suspicion; kept by the guest's uid."""

    attempt: int
    owner: str  # uid of who suffers
    guest_name: str
    owner_name: str
    guest_family: str
    owner_family: str
    signal: str
    value: float  # felt when it was named
    threshold: float
    since: float
    before: float  # beyond what is usual, then
    why: str
    quota: Cores
    step: Step = Step.CURBED
    cuts: int = 1
    reports: int = 0  # since the last cut or trial
    excess: float = 0.0  # Σ over them
    calm: int = 0  # reports on end without an outlier
    low: int = 0  # reports at the least quota while the owner suffered
    relieved: bool = False  # holding it back has helped
    lapses: int = 0
    leave: bool = False
    left: int = 0  # reports for which it is still remembered once it was let go

    @property
    def is_sure(self) -> bool:
        """Relieved by holding it back, and worse again once it was let go; or relieved, and bad enough to leave."""
        return self.relieved and (self.lapses > 0 or self.leave)


class Turn(NamedTuple):
    """A case after one more report, None if it is over; and what has happened, in a word, if anything."""

    case: Case | None
    what: str = ""


CUT, PROVED, RELEASED, ACQUITTED, SHOULD_LEAVE = "cut", "proved", "released", "acquitted", "should leave"
GONE: Final = "gone"
MOST_DOUBLINGS: Final = 6


def turned(case: Case, feeling: Feeling | None, rules: Interference, *, owner_here: bool = True) -> Turn:
    """One more report. `feeling`: the owner's, by the signal of the case; None: unknown."""
    if case.step is not Step.CURBED:
        return Turn(replace(case, left=case.left - 1) if case.left > 1 else None)
    if not owner_here:
        return Turn(_let_go(case, Step.PROVED if case.relieved else Step.INNOCENT, 1), GONE)
    if feeling is None:
        return Turn(case)
    calm = 0 if feeling.is_outlier else case.calm + 1
    case = replace(case, reports=case.reports + 1, excess=case.excess + feeling.excess, calm=calm)
    if case.reports < rules.trial:
        return Turn(case)
    relieved = case.excess / case.reports <= (1 - rules.relief) * case.before
    was_proved = case.relieved
    case = replace(case, reports=0, excess=0.0, relieved=was_proved or relieved)
    is_tried = case.cuts >= rules.tries or case.quota <= rules.least_quota or calm >= rules.calm
    if not case.relieved and is_tried:
        return Turn(_let_go(case, Step.INNOCENT, rules.watch), ACQUITTED)
    if case.relieved and calm >= rules.calm * 2 ** min(case.lapses, MOST_DOUBLINGS):
        return Turn(_let_go(case, Step.PROVED, rules.watch), RELEASED)
    suffers = calm < rules.trial
    if suffers and case.quota > rules.least_quota:
        case = replace(case, quota=max(rules.least_quota, case.quota * rules.cut), cuts=case.cuts + 1)
        return Turn(case, CUT if was_proved or not case.relieved else PROVED)
    low = case.low + rules.trial if suffers else 0
    if case.relieved and low >= rules.grace and not case.leave:
        return Turn(replace(case, low=low, leave=True), SHOULD_LEAVE)
    return Turn(replace(case, low=low), PROVED if case.relieved and not was_proved else "")


def named(new: Case, before: Case | None, rules: Interference) -> Case | None:
    """The case of a guest that is suspected now, given what is remembered of it; None: it is left alone."""
    if before is None:
        return new
    if before.step is Step.CURBED:
        return None
    if before.step is Step.INNOCENT:
        return None if before.owner == new.owner else new
    lapses = before.lapses + 1
    return replace(new, lapses=lapses, relieved=True, leave=lapses >= rules.lapses)


def first_quota(used: Cores, rules: Interference) -> Cores:
    """For a guest that used so many cores."""
    return max(rules.least_quota, rules.cut * used)


def _let_go(case: Case, step: Step, left: int) -> Case:
    return replace(case, step=step, leave=False, left=left)
