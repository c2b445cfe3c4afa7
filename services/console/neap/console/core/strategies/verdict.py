"""What is told of one strategy: what it would have gained, at what risk, what it needs; and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from neap.common.units import Cores, Ratio

NO_RISK, LITTLE, SOME, MUCH = "none", "little", "some", "much"
RISKS: Final = (NO_RISK, LITTLE, SOME, MUCH)
BOUNDS: Final[Sequence[Ratio]] = (0.0005, 0.01, 0.05)  # shares of time up to which a risk is none, little, some
ASSUMED: Final = "requests are assumed"
SMALLEST: Final[Ratio] = 0.01  # of the cluster's cores: less is no gain worth a switch
PART: Final[Ratio] = 0.05  # of the cores of a part: the same


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of text below titles; the first column is a name."""

    titles: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    said: tuple[str, ...] = ()  # what the columns mean
    of: str = ""  # what a row is: nodes, services


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy. `cores` None: it gains nothing by itself, or nothing can be said, and `gain` says why."""

    name: str
    title: str
    gain: str
    cores: Cores | None = None  # freed, used or sold, in the mean over time
    unit: str = "cores"  # of which kind they are
    of: Cores = 0.0  # of so many, where not all of the cluster was looked at; 0: of the cluster's
    part: str = ""  # what was looked at then
    risk: str = ""
    level: str = NO_RISK  # of RISKS
    short: Ratio = 0.0  # share of the time on which `level` rests
    needs: str = ""  # the switch, and what it asks for
    but: str = ""  # why the gain is less certain than it looks: what was assumed, what has to be done before
    notes: tuple[str, ...] = ()
    figures: Mapping[str, float] = {}
    table: Table | None = None
    text: str = ""  # in the place of a table


def level_of(short: Ratio) -> str:
    """In words people sort by."""
    return next((word for word, most in zip(RISKS, BOUNDS, strict=False) if short <= most), MUCH)


def unknown(name: str, title: str, why: str, needs: str = "", notes: Sequence[str] = ()) -> Verdict:
    """Not assessed, and why."""
    return Verdict(name=name, title=title, gain=f"not assessed: {why}", needs=needs, notes=tuple(notes))


def is_worth(verdict: Verdict, cores: Cores) -> bool:
    """Whether it would have given something: to the cluster, or to that part of it which was looked at."""
    least = min(SMALLEST * cores, PART * verdict.of if verdict.of else cores)
    return verdict.cores is not None and verdict.cores > 0 and verdict.cores >= least


def ordered(verdicts: Sequence[Verdict], cores: Cores) -> list[Verdict]:
    """What to turn on first: what gains before what does not, little risk before more, certain before not, then by gain."""

    def rank(one: Verdict) -> tuple[bool, bool, int, bool, float]:
        risk = max(RISKS.index(one.level), RISKS.index(LITTLE))  # none or little: gain decides
        return one.cores is None, not is_worth(one, cores), risk, bool(one.but), -(one.cores or 0.0)

    return sorted(verdicts, key=rank)


def share(part: float, whole: float) -> Ratio:
    """0 of nothing."""
    return part / whole if whole > 0 else 0.0


def percent(ratio: Ratio) -> str:
    """As people read it: 12 %, 1.3 %, 0.02 %, 0."""
    each = 100 * ratio
    if abs(each) < 0.005:
        return "0"
    digits = 0 if abs(each) >= 10 else 1 if abs(each) >= 1 else 2
    return f"{each:.{digits}f} %"


def often(ratio: Ratio, what: str = "of the time") -> str:
    """A share of time, in words where there is none."""
    return f"{percent(ratio)} {what}" if percent(ratio) != "0" else "never"


def named(whose: tuple[str, str, str]) -> str:
    """A service as people call it."""
    return "/".join(part for part in (whose[0], whose[2]) if part)
