"""What of the evictor's settings may change while it runs, and what one service may have of its own.

For the pods of one service a policy may set `protected`, and how much a rule that judges each guest by itself
tolerates: such a rule is asked once for all guests, and once more for each guest with settings of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from neap.common.model.workload import Workload
from neap.common.runtime.tuning import Tunable, Tuning
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.rules import asked_rules
from neap.evictor.core.view import Level, View
from neap.evictor.settings import Settings

TOLERANCES: Final = ("cpu_suppression.tolerance", "memory_overuse.ratio")  # of rules that judge each guest by itself
PER_SERVICE: Final = frozenset({"protected", *TOLERANCES})
FIXED: Final = frozenset({"node", "keep_every", "keep_patience"})  # the table of the service was made with them


def tunable(rules: Mapping[str, Rule]) -> Tunable[Settings]:
    """All but `FIXED`; for one service `PER_SERVICE`."""

    def check(settings: Settings) -> None:
        asked_rules(rules, settings)

    return Tunable("evictor", Settings, FIXED, per_service=PER_SERVICE, check=check)


def with_services(rules: Mapping[str, Rule], tuning: Tuning[Settings]) -> dict[str, Rule]:
    """The same rules, which judge each guest as its service wants."""
    own = {key.partition(".")[0] for key in TOLERANCES}
    return {
        name: replace(rule, pressure=partial(_pressure, name, rule, tuning)) if name in own else rule
        for name, rule in rules.items()
    }


def is_protected(tuning: Tuning[Settings], workload: Workload) -> bool:
    """Whether policy says that this service's pods never leave."""
    return tuning.of(workload).protected


def claims(tuning: Tuning[Settings], rule: str, workload: Workload) -> tuple[str, ...]:
    """What policy says of a rule, for these pods."""
    return tuning.claims(f"{rule}.", workload)


def _pressure(name: str, rule: Rule, tuning: Tuning[Settings], view: View, settings: RuleSettings) -> Sequence[Level]:
    own: dict[str, Any] = {}
    for guest in view.guests:
        mine = getattr(tuning.of(guest.workload), name)
        if mine != settings:
            own[guest.uid] = mine
    levels = [level for level in rule.pressure(view, settings) if level.scope not in own]
    for guest in view.guests:
        if guest.uid in own:
            levels += rule.pressure(replace(view, guests=(guest,)), own[guest.uid])
    return levels
