"""The last look before somebody is asked to leave: is everything still so, as far as it is known now?

In doubt nobody leaves. What is asked again is not whether the pressure has lasted, but whether it is there, and
whether this guest still helps: its measurement may be gone, or the offer have recovered, while a token was awaited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from neap.evictor.core.claims import Claim
from neap.evictor.core.hold import Held
from neap.evictor.core.rule import Rule, RuleSettings
from neap.evictor.core.story import Choice
from neap.evictor.core.view import Guest, View


def doubt(*checks: tuple[bool, str]) -> str:
    """The first check that does not hold; empty if all do."""
    return next((why for holds, why in checks if not holds), "")


def again(
    claim: Claim,
    asked: tuple[Rule, RuleSettings] | None,
    view: View,
    candidates: Sequence[Guest],
    holds: Mapping[str, Held],
) -> Choice | str:
    """The level and the guest as they are now; or why not."""
    if asked is None or asked[1].dry_run:
        return "rule is off"
    rule, settings = asked
    level = next((one for one in rule.pressure(view, settings) if one.scope == claim.scope), None)
    if level is None:
        return "not known any more"
    if level.need <= 0:
        return "recovered"
    ranked = rule.rank(view, level, candidates)
    victim = next((one for one in ranked if one.guest.uid == claim.uid), None)
    if victim is None:
        return "no help any more"
    return Choice(claim.rule, level, holds.get(claim.scope, Held(since=view.at)), ranked, (victim,))
