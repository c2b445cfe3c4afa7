"""A change of size, from the wish to the verdict: pure steps from one Recommendation to the next.

    ""  ── apply ──►  applying  ── the window after was no worse ──►  applied
                        │  └── worse than the window before ──►  rolled back   (the undo is emitted, once)
                        └── refused by all, or taken up by nobody ──►  refused

    worse:  OOM kills − kills before · (after / before)  ≥ guard_oom_kills, at any time within the window
            throttled, stalled or starved above the window before by more than the guard allows, at its end

One change at a time, none within the cool-down (doubled with every rollback in a row, a week at most), and a Resize is
emitted once: what is deferred or infeasible is said and waited for, never asked for again.
All of this is in the Recommendation itself (`state`, `applying`), so it survives a restart of the planner.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from neap.common.model.lifecycle import Measured
from neap.common.model.recommendation import Applying, Health, Recommendation, Resize, Resized, ResizeHow, Sum
from neap.common.model.resource import Resources
from neap.common.units import DAY, Seconds, format_duration
from neap.foresight.sizing import differs, shown
from neap.planner.core.sizing.settings import SizingSettings

APPLYING, APPLIED, ROLLED_BACK, REFUSED = "applying", "applied", "rolled back", "refused"
DONE: Final = frozenset({"done", "recreating"})
LONGEST_COOL_DOWN: Final = 7 * DAY
MOST_SAID: Final = 16  # pods whose outcome is told by name
UNDO: Final = "undo "


def reason_against(told: Recommendation, settings: SizingSettings, at: Seconds) -> str:
    """Why the recommendation is not applied just now, or nothing."""
    if settings.mode == "off":
        return "sizing is off for this service"
    if told.waits or not told.containers:
        return told.waits or "there is no recommendation"
    if told.state == APPLYING:
        return f"a change is under way since {format_duration(at - told.applying.at if told.applying else 0)}"
    if not changed(told, settings):
        return f"nothing differs by more than {settings.change:.0%} from what is asked for"
    left = rests_until(told, settings) - at
    return f"the last change was {_ago(told, at)}: at rest for another {format_duration(left)}" if left > 0 else ""


def rests_until(told: Recommendation, settings: SizingSettings) -> Seconds:
    """Until when no other change is made."""
    if told.applying is None:
        return 0.0
    longest = max(LONGEST_COOL_DOWN, settings.cool_down)
    return told.applying.at + min(settings.cool_down * 2.0 ** min(told.applying.rollbacks, 16), longest)


def changed(told: Recommendation, settings: SizingSettings) -> dict[str, Resources]:
    """By container what would be asked for, of the containers where a target differs by enough."""
    wanted: dict[str, Resources] = {}
    for size in told.containers:
        targets = {
            each.resource: each.target for each in size.requests if differs(each.now, each.target, settings.change)
        }
        if targets:
            wanted[size.name] = targets
    return wanted


def begun(
    told: Recommendation, settings: SizingSettings, at: Seconds, health: Health, *, how: ResizeHow, by: str
) -> tuple[Recommendation, Resize]:
    """The change begins: what is said of it, and the command."""
    to = changed(told, settings)
    before = {size.name: _now(size.requests, to[size.name]) for size in told.containers if size.name in to}
    limits = {s.name: {each.resource: each.target for each in s.limits} for s in told.containers if s.limits}
    had = {
        s.name: {each.resource: each.now for each in s.limits if each.now is not None}
        for s in told.containers
        if s.limits
    }
    rollbacks = told.applying.rollbacks if told.applying and told.state == ROLLED_BACK else 0
    is_again = told.applying is not None and told.applying.version.partition("-")[0] == told.version
    version = f"{told.version}-{round(at)}" if is_again else told.version
    applying = Applying(version=version, at=at, requests=before, limits=had, to=to, before=health, rollbacks=rollbacks)
    why = f"{by}: {_steps(before, to)}; saves {spoken(told.saves) or 'nothing'} over {told.replicas} replicas"
    resize = Resize(
        at=at, source=told.source, namespace=told.namespace, kind=told.kind, name=told.name, version=version,
        how=how, requests=to, limits=limits, reason=why,
    )  # fmt: skip
    return replace(told, at=at, state=APPLYING, why=why, applying=applying), resize


def undone(told: Recommendation, at: Seconds, *, how: ResizeHow, why: str) -> tuple[Recommendation, Resize] | None:
    """The change is taken back; None if there is none that could be."""
    applying = told.applying
    if applying is None or told.state not in (APPLYING, APPLIED):
        return None
    resize = Resize(
        at=at, source=told.source, namespace=told.namespace, kind=told.kind, name=told.name,
        version=UNDO + applying.version, how=how, requests=applying.requests, limits=applying.limits, reason=why,
    )  # fmt: skip
    applying = replace(applying, at=at, to=applying.requests, outcomes={}, said={}, rollbacks=applying.rollbacks + 1)
    return replace(told, at=at, state=ROLLED_BACK, why=why, applying=applying), resize


def heard(told: Recommendation, outcome: Resized, at: Seconds) -> Recommendation | None:
    """After one more word of the gateway; None if it is about another change."""
    applying = told.applying
    if applying is None or outcome.version.removeprefix(UNDO) != applying.version:
        return None
    if outcome.version.startswith(UNDO) != (told.state == ROLLED_BACK):
        return None
    pod = outcome.pod or outcome.uid or told.name
    outcomes = {**applying.outcomes, outcome.outcome: applying.outcomes.get(outcome.outcome, 0) + 1}
    said = {name: text for name, text in applying.said.items() if name != pod}
    if outcome.outcome not in DONE and len(said) < MOST_SAID:
        said[pod] = f"{outcome.outcome}: {outcome.detail}" if outcome.detail else outcome.outcome
    state = told.state
    if state in (APPLYING, REFUSED):
        failed = sum(count for name, count in outcomes.items() if name in ("infeasible", "refused"))
        all_failed = failed == sum(outcomes.values()) and (failed >= told.replicas or not (outcome.uid or outcome.pod))
        state = REFUSED if all_failed else APPLYING
    return replace(
        told,
        at=at,
        state=state,
        why=_after(told, outcomes, said),
        applying=replace(applying, outcomes=outcomes, said=said),
    )


def harm(before: Health | None, after: Health, settings: SizingSettings, *, over: bool) -> tuple[Measured, ...]:
    """What got worse, with both numbers; kills count at once, shares when the window is over."""
    found: list[Measured] = []
    scale = min(after.seconds / before.seconds, 1.0) if before and before.seconds > 0 else 0.0
    expected = before.oom_kills * scale if before else 0.0
    if after.oom_kills - expected >= settings.guard_oom_kills:
        found.append(
            Measured(
                metric="OOM kills",
                value=after.oom_kills,
                threshold=expected + settings.guard_oom_kills,
                window=after.seconds,
            )
        )
    if over and before:
        for metric, was, now, more in (
            ("throttled", before.throttled, after.throttled, settings.guard_throttled),
            ("cpu stalled", before.stalled, after.stalled, settings.guard_stalled),
            ("memory stalled", before.starved, after.starved, settings.guard_starved),
        ):
            if now is not None and now > (was or 0.0) + more:
                found.append(Measured(metric=metric, value=now, threshold=(was or 0.0) + more, window=after.seconds))
    return tuple(found)


def sentence(measured: tuple[Measured, ...]) -> str:
    """What got worse, in words."""
    return "taken back, it got worse: " + ", ".join(
        f"{one.metric} {one.value:.3g}, {one.threshold:.3g} is allowed in {format_duration(one.window)}"
        for one in measured
    )


def settled(told: Recommendation, after: Health, at: Seconds) -> Recommendation:
    """The window after the change was no worse."""
    parts = [f"throttled {after.throttled:.1%}" if after.throttled is not None else "", f"{after.oom_kills} OOM kills"]
    said = _outcomes(told.applying.outcomes) if told.applying else ""
    why = f"no worse after {format_duration(after.seconds)} ({', '.join(filter(None, parts))}){said and '; ' + said}"
    return replace(told, at=at, state=APPLIED, why=why)


def given_up(told: Recommendation, at: Seconds, patience: Seconds) -> Recommendation:
    """Nobody took the change up."""
    return replace(told, at=at, state=REFUSED, why=f"nobody took it up within {format_duration(patience)}")


def spoken(amounts: Mapping[str, int]) -> str:
    """Amounts by resource in words."""
    return ", ".join(
        f"{shown(name, amount)} {name}" if name != "cpu" else shown(name, amount)
        for name, amount in amounts.items()
        if amount
    )


def _now(requests: Sequence[Sum], to: Resources) -> Resources:
    return {each.resource: each.now for each in requests if each.resource in to and each.now is not None}


def _steps(before: Mapping[str, Resources], to: Mapping[str, Resources]) -> str:
    steps = []
    for name, targets in to.items():
        for resource, target in targets.items():
            was = before.get(name, {}).get(resource)
            steps.append(
                f"{name} {resource} {'nothing' if was is None else shown(resource, was)} -> {shown(resource, target)}"
            )
    return ", ".join(steps)


def _outcomes(outcomes: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))


def _after(told: Recommendation, outcomes: Mapping[str, int], said: Mapping[str, str]) -> str:
    head = told.why.partition(" · ")[0]
    named = "; ".join(f"{pod} {text}" for pod, text in said.items())
    return f"{head} · {_outcomes(outcomes)}{': ' + named if named else ''}"


def _ago(told: Recommendation, at: Seconds) -> str:
    return f"{format_duration(at - told.applying.at)} ago" if told.applying else "never"
