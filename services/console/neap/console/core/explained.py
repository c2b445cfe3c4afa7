"""The scheduler's answers as text: the first line is the answer, the rest says why, with the numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from neap.common.model.explanation import Candidate, Explanation
from neap.console.core.moment import when


def headline(told: Explanation) -> str:
    """The answer in one line."""
    match told.state:
        case "placed":
            since = f" at {when(told.at)}" if told.at else ""
            return f"{told.name} is on {told.node}, placed there{since}; {_again(told)}"
        case "fits":
            return f"{told.name} would go to {_choice(told)}" if told.node else f"{told.name} would run: {told.reason}"
        case "refused" | "ended" | "unknown":
            return f"{told.name} is {told.state}: {told.reason}"
    if told.best is not None:
        return f"{told.name} waits for its turn; next: {_choice(told)}"
    if told.waits_for:
        return f"{told.name} waits a moment for {told.waits_for}, whose ledger is busy"
    if told.node:
        return f"{told.name} is on its way to {told.node}: {told.reason}"
    return f"{told.name} WAITS: {_nowhere(told)}" if told.nodes else f"{told.name} WAITS: {told.reason}"


def body(told: Explanation) -> list[str]:
    """What stands behind it."""
    lines = []
    if told.remedies:
        lines += [f"  {word:<11}{text}" for word, text in _remedies(told)]
    lines += _rejected(told)
    if told.best is not None:
        lines += _terms(told.best, told.second)
    lines += [f"  it gets    {text}" for text in told.parts]
    if told.wakes_on and told.state in ("queued", "waiting") and told.best is None:
        lines.append(f"  tried anew when {', '.join(told.wakes_on)}")
    if told.state == "placed" and told.reason:
        lines.append(f"  said then  {told.reason}")
    return lines


def text(told: Explanation) -> str:
    """All of it."""
    return "\n".join([headline(told), *body(told)])


def dry_run(answers: Sequence[Explanation], where: str) -> str:
    """A manifest's pods; those that would not run first, because they are why one asks."""
    missing = [told for told in answers if told.state != "fits"]
    fit = len(answers) - len(missing)
    all_of = "all" if not missing else f"{fit} of"
    lines = [f"{all_of} {len(answers)} pods would run now ({where}; nothing was placed)"]
    lines += [text(told) for told in missing if told.rejected or told.state == "refused"]
    short = [told.name for told in missing if not told.rejected and told.state != "refused"]
    if short:
        lines.append(f"and likewise {_listed(short)}")
    for told in answers:
        if told.state == "fits":
            lines += [text(told)] if told.best is not None else [headline(told)]
    return "\n".join(lines)


def as_json(answers: Iterable[Explanation]) -> list[dict[str, Any]]:
    """Every field."""
    return [msgspec.to_builtins(told) for told in answers]


def _again(told: Explanation) -> str:
    best, fits = told.best, f"{told.feasible} of {told.nodes} nodes fit"
    if best is None:
        return "now, without it, no node would take it" if told.nodes else "its node is not known now"
    if best.node == told.node:
        return f"it would go there again ({fits}{_ahead(told)})"
    return f"now it would go to {best.node} ({fits}{_ahead(told)})"


def _choice(told: Explanation) -> str:
    node = told.node or (told.best.node if told.best else "")
    if told.best is None:
        return node
    return f"{node}, score {told.best.score:.1f} ({told.feasible} of {told.nodes} nodes fit{_ahead(told)})"


def _ahead(told: Explanation) -> str:
    if told.best is None or told.second is None:
        return ""
    margin = told.best.score - told.second.score
    tie = abs(margin) < 0.05
    return f"; level with {told.second.node}" if tie else f"; {margin:.1f} ahead of {told.second.node}"


def _nowhere(told: Explanation) -> str:
    none = f"none of {told.nodes} nodes takes it"
    if told.remedies:
        return f"{none}; {told.remedies[0].says} would do"
    return f"{none}, and no single change would do: of all {told.closest}" if told.closest else none


def _remedies(told: Explanation) -> list[tuple[str, str]]:
    return [
        ("or" if number else "would do", f"{one.says} ({_nodes(one.nodes)} only this: {one.plugin} {one.reason})")
        for number, one in enumerate(told.remedies)
    ]


def _nodes(count: int) -> str:
    return "1 node lacks" if count == 1 else f"{count} nodes lack"


def _rejected(told: Explanation) -> list[str]:
    width = max((len(f"{one.plugin} {one.reason}") for one in told.rejected), default=0)
    lines = []
    for number, one in enumerate(told.rejected):
        head = "nodes out" if not number else ""
        why = f"{one.plugin} {one.reason}"
        miss = f"   nearest: {one.nearest}" if one.nearest else f"   such as {one.example}" if one.example else ""
        lines.append(f"  {head:<11}{one.nodes:>5}  {why:<{min(width, 48)}}{miss}")
    return lines


def _terms(best: Candidate, second: Candidate | None) -> list[str]:
    """The plugins' scores of both nodes, and what they came to; those that made the difference first."""
    other = {term.plugin: term for term in second.terms} if second else {}
    rows = []
    for term in best.terms:
        rival = other.get(term.plugin)
        ahead = term.contribution - (rival.contribution if rival else 0.0)
        weight = f" x {term.weight:g}" if term.weight != 1 else ""
        rows.append((abs(ahead), term.plugin + weight, term.score, rival.score if rival else 0.0, ahead))
    rows.sort(key=lambda row: -row[0])
    margin = best.score - (second.score if second else 0.0)
    rows.append((0.0, "together", best.score, second.score if second else 0.0, margin))
    width = max(12, len(best.node), len(second.node) if second else 0)
    lines = [f"  {'score':<24}{best.node:>{width}}" + (f"{second.node:>{width}}{'ahead by':>12}" if second else "")]
    for _, what, mine, its, ahead in rows:
        versus = f"{its:>{width}.1f}{ahead:>+12.2f}" if second else ""
        lines.append(f"  {what:<24}{mine:>{width}.1f}{versus}")
    return lines


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
