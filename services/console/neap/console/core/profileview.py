"""`neap profile`, `neap predict`, `neap machine-types`: what services use, and the arithmetic of what they will. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from neap.common.errors import InputError
from neap.common.model.indicator import Concern, performance
from neap.common.model.profile import (
    KINDS,
    MACHINE_LABEL,
    MachineType,
    Observation,
    ProfileAnswer,
    ProfiledKind,
    ServiceProfile,
    predicted,
    ratio_matrix,
)
from neap.common.model.resource import CPU
from neap.common.units import Seconds, format_bytes, format_duration
from neap.console.core.columns import columns

BARS: Final = " ▁▂▃▄▅▆▇█"
NOBODY: Final = "(none told)"


def text(key: str, answer: ProfileAnswer, now: Seconds) -> str:
    """A service's profile for people."""
    profile, lines = answer.profile, list[str]()
    if profile is None:
        return f"{key}: {answer.says or 'profile: none'}"
    age = format_duration(max(0.0, now - profile.at))
    lines.append(f"{key}  version {profile.version} ({profile.source}, {age} ago)")
    lines += _observed(profile)
    for kind, hours in sorted(profile.portrait.items()):
        least, most = (_amount(kind, amount) for amount in (min(hours), max(hours)))
        lines.append(f"  {kind} by hour, UTC  {bars(hours)}  {least} .. {most} a pod")
    for kind, amount in sorted(profile.used.items()):
        lines.append(f"  {kind} p99  {_amount(kind, amount)} a pod")
    if profile.baseline.percent is not None:
        until = f", up to {profile.baseline.sentinel[1]}" if profile.baseline.sentinel is not None else ""
        lines.append(f"  baseline  the oldest {profile.baseline.percent} %{until}")
    for one in profile.indicators:
        now_at = "" if one.current is None else f", now {one.current:g}"
        lines.append(f"  {one.concern} indicator {one.name}  {_bound(one.lower)} .. {_bound(one.upper)}{now_at}")
    if any(one.concern is Concern.BUSINESS for one in profile.indicators):
        lines.append(f"  it fares {performance(profile.indicators)}")
    lines += [f"  note: {part}" for part in answer.says.split("; ") if part]
    if answer.measured is not None:
        lines += [f"  measured beside it, version {answer.measured.version}:", *_observed(answer.measured)]
    return "\n".join(lines)


def as_json(answer: ProfileAnswer) -> dict[str, Any]:
    """The same for machines."""
    found: dict[str, Any] = msgspec.to_builtins(answer)
    return found


def prediction(profile: ServiceProfile, target: str, cores: float, machines: Mapping[str, MachineType]) -> str:
    """What a pod of the service would use on a machine type, kind by kind, as it was worked out.

    Raises:
        InputError: nothing was observed, or the type is in no table and was never seen.
    """
    seen = {one.machine for one in profile.observations}
    if target not in machines and target not in seen:
        known = ", ".join(sorted({*machines, *(name for name in seen if name)})) or "none"
        raise InputError(
            f"machine type {target!r} is in no table, and the service was never seen on it (known: {known})"
        )
    said = [_sum(kind, profile, target, cores, machines) for _, kind in sorted(KINDS.items())]
    lines = [one for one in said if one]
    if not lines:
        raise InputError(f"{profile.key}: nothing was observed of it that a pod of {cores:g} cores could be told by")
    return "\n".join([f"{profile.key} version {profile.version} on {target}, a pod of {cores:g} cores", *lines])


def _sum(
    kind: ProfiledKind, profile: ServiceProfile, target: str, cores: float, machines: Mapping[str, MachineType]
) -> str:
    found = predicted(kind, profile.observations, round(cores * 1000), target, machines)
    if found is None:
        return ""
    source = next(one for one in profile.observations if (one.kind, one.machine) == (kind.name, found.observed_on))
    speeds = [
        machines[name].speeds.get(kind.name) if name in machines else None for name in (target, found.observed_on)
    ]
    by = f" ({speeds[0]:g} / {speeds[1]:g})" if found.ratio != 1 and None not in speeds else ""
    parts = [f"{_digits(source.peak)}{'/core' if kind.per_core else ' a pod'}", f"{found.ratio:g}{by}"]
    parts += [f"{cores:g}"] if kind.per_core else []
    where = f"observed on {found.observed_on or 'machines of unknown type'}, {source.pod_hours:g} pod hours"
    unsure = f"; {found.unsure}" if found.unsure else ""
    return f"  {kind.name}  {' × '.join(parts)} = {_digits(found.amount)} {kind.unit}  ({where}{unsure})"


def machine_types(machines: Mapping[str, MachineType], labels: Mapping[str, Mapping[str, str]]) -> str:
    """A table for every kind that scales with the machine. `labels`: of every node."""
    counts: dict[str, int] = {}
    for theirs in labels.values():
        named = theirs.get(MACHINE_LABEL, "")
        counts[named] = counts.get(named, 0) + 1
    kinds = sorted({kind for one in machines.values() for kind in one.speeds})
    lines = [line for kind in kinds for line in _table_of(kind, machines, counts)]
    if not kinds:
        lines = ["no machine types are told (setting planner.profiling.machines): every ratio is 1"]
    strangers = {name: count for name, count in sorted(counts.items()) if name not in machines}
    for name, count in strangers.items():
        who = f"of type {name}, which is in no table" if name else f"without a label {MACHINE_LABEL}"
        lines.append(f"{count} nodes {who}: machine type unknown, ratio 1")
    return "\n".join(lines)


def machine_types_json(machines: Mapping[str, MachineType], labels: Mapping[str, Mapping[str, str]]) -> dict[str, Any]:
    """The same for machines."""
    kinds = sorted({kind for one in machines.values() for kind in one.speeds})
    return {
        "types": [msgspec.to_builtins(machines[name]) for name in sorted(machines)],
        "ratios": {kind: ratio_matrix(_speeds(kind, machines), KINDS[kind].scales) for kind in kinds if kind in KINDS},
        "nodes": {
            name: sum(theirs.get(MACHINE_LABEL, "") == name for theirs in labels.values())
            for name in sorted({*machines, *(theirs.get(MACHINE_LABEL, "") for theirs in labels.values())})
        },
    }


def _table_of(kind: str, machines: Mapping[str, MachineType], counts: Mapping[str, int]) -> list[str]:
    speeds = _speeds(kind, machines)
    known = KINDS.get(kind)
    if known is None:
        return [f"{kind}: no built-in kind; speeds {', '.join(f'{name} {speed:g}' for name, speed in speeds.items())}"]
    matrix = ratio_matrix(speeds, known.scales)
    rows = [("TYPE", "SPEED", *(f"×{name}" for name in speeds), "NODES")]
    for name, speed in speeds.items():
        ratios = ("?" if one is None else f"{one:.3g}" for one in matrix[name].values())
        rows.append((name, f"{speed:g}", *ratios, str(counts.get(name, 0))))
    return [f"{kind} (use scales {known.scales} with the machine)", *columns(rows, numbers=True)]


def bars(amounts: Sequence[float]) -> str:
    """A row of blocks, the largest full."""
    most = max(amounts, default=0.0)
    return "".join(BARS[round(8 * amount / most)] if most > 0 else BARS[0] for amount in amounts)


def _observed(profile: ServiceProfile) -> list[str]:
    return [_line(one) for one in sorted(profile.observations, key=lambda one: (one.kind, one.machine))]


def _line(one: Observation) -> str:
    kind = KINDS.get(one.kind)
    unit = f"{kind.unit if kind else ''}{' per core' if kind is None or kind.per_core else ' a pod'}"
    busiest = max(one.windows, key=lambda window: sum(window.containers.values()), default=None)
    when = datetime.fromtimestamp(busiest.start, UTC).strftime("%Y-%m-%d %H:%MZ") if busiest is not None else "never"
    spread = "" if one.spread is None else f", pods differ by {one.spread:.0%}"
    stable = "" if one.stable else ", unstable: p90 over pods"
    return (
        f"  {one.kind} on {one.machine or NOBODY}  {_digits(one.peak)} {unit}"
        f"  (busiest hour {when}, {one.pod_hours:g} pod hours{spread}{stable})"
    )


def _speeds(kind: str, machines: Mapping[str, MachineType]) -> dict[str, float]:
    return {name: machines[name].speeds[kind] for name in sorted(machines) if kind in machines[name].speeds}


def _amount(kind: str, amount: float) -> str:
    return f"{amount / 1000:.2f} cores" if kind == CPU else format_bytes(int(amount))


def _digits(amount: float) -> str:
    """Whole numbers in groups of three, others with what matters of them."""
    return f"{amount:,.0f}".replace(",", " ") if amount == int(amount) or amount >= 1000 else f"{amount:.4g}"


def _bound(amount: float | None) -> str:
    return "-" if amount is None else f"{amount:g}"
