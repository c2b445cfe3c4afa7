"""Katalyst's AdminQoSConfiguration as policy documents; what neap has no counterpart for is named, never swallowed.

    spec.config.<path>             -> settings of a room, by the table below
    no selector                    -> tier cluster
    nodeLabelSelector neap.io/pool=NAME -> tier pool
    ephemeralSelector.nodeNames    -> tier node, one document per node, until creation + lastDuration
    updateStrategy canary "10%"    -> canary 0.1
    paused                         -> nothing changes

A switch that turns an eviction on or off becomes the rule's `dry_run`: off means that it only counts and logs who would
leave. Two settings that would have to be one, such as the grace of several evictions, hold if they agree.
Source: kubewharf/katalyst-api pkg/apis/config/v1alpha1/adminqos.go (fields); katalyst-core kcc (tiers, canary).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeAlias

import msgspec

from neap.common.errors import InputError
from neap.common.kube.katalyst import RECLAIMED_MILLICPU, AdminQosConfiguration, AdminQosSpec
from neap.common.model.policy import POOL_LABEL, Edition, Name, Tier
from neap.common.units import Ratio, Seconds, parse_duration, parse_quantity
from neap.gateway.core.kinds.reading import Reading, Said

Read: TypeAlias = Callable[[Any], Any]
Patches: TypeAlias = dict[str, dict[str, Any]]  # room -> setting -> value


def admin_qos(value: AdminQosConfiguration, at: Seconds) -> Reading:
    """Editions for every room it speaks of.

    Raises:
        InputError: a value cannot be read, a selector cannot be followed, or it says two things at once.
    """
    if value.spec.paused:
        return Reading(hold=True)
    remarks: list[str] = []
    patches = _patches(value.spec.config, remarks)
    if value.spec.priority:
        remarks.append("spec.priority: of one tier the edition said later wins")
    said = []
    for suffix, tier, selector, expires in _targets(value, at):
        name = ".".join(part for part in ("aqc", value.metadata.namespace, value.metadata.name, suffix) if part)
        _named(name)
        for room, patch in sorted(patches.items()):
            edition = Edition(
                version=1,
                at=at,
                author=f"AdminQoSConfiguration {value.metadata.key}"[:512],
                tier=tier,
                selector=selector,
                patch=patch,
                canary=_canary(value.spec, remarks),
                expires=expires,
            )
            said.append(Said(room, name, edition))
    return Reading(said=tuple(said), remarks=tuple(dict.fromkeys(remarks)))


def _named(name: str) -> None:
    try:
        msgspec.convert(name, Name)
    except msgspec.ValidationError:
        raise InputError(f"the policy would be called {name}: 64 characters at most") from None


def _targets(value: AdminQosConfiguration, at: Seconds) -> Iterator[tuple[str, Tier, str, Seconds | None]]:
    """Of each document: what its name ends with, tier, selector, end."""
    spec = value.spec
    nodes = (spec.ephemeral_selector.node_names or ()) if spec.ephemeral_selector else ()
    if nodes and spec.ephemeral_selector is not None:
        born = value.metadata.creation_timestamp
        since = at if born is None else datetime.fromisoformat(born).timestamp()
        lasts = parse_duration(spec.ephemeral_selector.last_duration or "")
        for node in nodes:
            yield node, Tier.NODE, node, since + lasts
    elif not spec.node_label_selector:
        yield "", Tier.CLUSTER, "", None
    else:
        key, equals, pool = spec.node_label_selector.replace("==", "=").partition("=")
        if key.strip() != POOL_LABEL or not equals or not pool.strip() or "," in pool:
            raise InputError(f"nodeLabelSelector {spec.node_label_selector!r:.128}: only {POOL_LABEL}=NAME is followed")
        yield "", Tier.POOL, pool.strip(), None


def _canary(spec: AdminQosSpec, remarks: list[str]) -> Ratio:
    canary = spec.update_strategy.rolling_update.canary if spec.update_strategy else None
    if isinstance(canary, str) and canary.endswith("%"):
        return min(1.0, max(0.0, float(parse_quantity(canary[:-1])) / 100))
    if canary is not None:
        remarks.append(f"updateStrategy canary {canary}: a number of nodes is not followed, a percentage is")
    return 1.0


def _patches(config: Mapping[str, Any], remarks: list[str]) -> Patches:
    found: Patches = {}
    origin: dict[tuple[str, str], str] = {}
    for path, value in _walk(config, ""):
        fields = HONOURED.get(path)
        if fields is None:
            remarks.append(f"config.{path}: no counterpart")
            continue
        for room, key, read in fields:
            try:
                setting = read(value)
            except (InputError, TypeError, ValueError, AttributeError) as error:
                raise InputError(f"config.{path} = {value!r:.128}: {error}") from None
            patch = found.setdefault(room, {})
            if patch.get(key, setting) != setting:
                raise InputError(f"config.{path} and config.{origin[room, key]} say different things of {room}.{key}")
            patch[key] = setting
            origin[room, key] = path
    return found


def _walk(value: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    """The leaves of the configuration by dotted path; tables by resource name are leaves."""
    for name, below in sorted(value.items()):
        path = f"{above}{name}"
        if isinstance(below, Mapping) and path not in HONOURED:
            yield from _walk(below, f"{path}.")
        else:
            yield path, below


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InputError("true or false is meant")
    return value


def _not(value: Any) -> bool:
    return not _flag(value)


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise InputError("a number is meant")
    return float(parse_quantity(str(value)))


def _count(value: Any) -> int:
    number = _number(value)
    if number != int(number):
        raise InputError("a whole number is meant")
    return int(number)


def _seconds(value: Any) -> Seconds:
    return parse_duration(value) if isinstance(value, str) and not value.isdigit() else _number(value)


def _reclaimed_cpu(value: Any) -> float:
    """Of a table by resource, the ratio of reclaimed CPU."""
    if not isinstance(value, Mapping) or set(value) != {RECLAIMED_MILLICPU}:
        raise InputError(f"only {RECLAIMED_MILLICPU} has a threshold")
    return _number(value[RECLAIMED_MILLICPU])


def _utilisation(value: Any) -> str:
    return "headroom_utilisation" if _flag(value) else "headroom_canonical"


_GRACE: Final = (("evictor", "grace", _seconds),)
_RECLAIM: Final = "reclaimedResourceConfig"
_USE: Final = f"{_RECLAIM}.cpuHeadroomConfig.utilBasedConfig"
_ADVISOR: Final = "advisorConfig.cpuAdvisorConfig"
_CPU: Final = "evictionConfig.cpuPressureEvictionConfig"
_MEMORY: Final = "evictionConfig.memoryPressureEvictionConfig"
_GUESTS: Final = "evictionConfig.reclaimedResourcesEvictionConfig"
_ROOTFS: Final = "evictionConfig.rootfsPressureEvictionConfig"

# path below spec.config -> (room, setting, how it is read)
HONOURED: Final[Mapping[str, tuple[tuple[str, str, Read], ...]]] = {
    f"{_RECLAIM}.enableReclaim": (("advisor", "lend", _flag),),
    f"{_USE}.enable": (("advisor", "headroom", _utilisation),),
    f"{_USE}.targetReclaimedCoreUtilization": (("advisor", "tune.headroom_utilisation.target", _number),),
    f"{_USE}.maxReclaimedCoreUtilization": (("advisor", "tune.headroom_utilisation.most", _number),),
    f"{_USE}.maxOversoldRate": (("advisor", "tune.headroom_utilisation.oversold", _number),),
    f"{_USE}.maxHeadroomCapacityRate": (("advisor", "tune.headroom_utilisation.share", _number),),
    f"{_ADVISOR}.allowSharedCoresOverlapReclaimedCores": (("advisor", "overlap", _flag),),
    f"{_CPU}.enableLoadEviction": (("evictor", "cpu_load.dry_run", _not),),
    f"{_CPU}.loadUpperBoundRatio": (("evictor", "cpu_load.ratio", _number),),
    f"{_CPU}.loadLowerBoundRatio": (("evictor", "cpu_load.soft", _number),),
    f"{_CPU}.enableSuppressionEviction": (("evictor", "cpu_suppression.dry_run", _not),),
    f"{_CPU}.maxSuppressionToleranceRate": (("evictor", "cpu_suppression.tolerance", _number),),
    f"{_CPU}.minSuppressionToleranceDuration": (("evictor", "cpu_suppression.hold", _seconds),),
    f"{_CPU}.gracePeriod": _GRACE,
    f"{_MEMORY}.enableNumaLevelEviction": (("evictor", "numa_memory.dry_run", _not),),
    f"{_MEMORY}.enableSystemLevelEviction": (("evictor", "memory_pressure.dry_run", _not),),
    f"{_MEMORY}.numaFreeBelowWatermarkTimesThreshold": (("evictor", "numa_memory.reports", _count),),
    f"{_MEMORY}.systemFreeMemoryThresholdMinimum": (("evictor", "memory_pressure.min", _count),),
    f"{_MEMORY}.enableRSSOveruseEviction": (("evictor", "memory_overuse.dry_run", _not),),
    f"{_MEMORY}.rssOveruseRateThreshold": (("evictor", "memory_overuse.ratio", _number),),
    f"{_MEMORY}.gracePeriod": _GRACE,
    f"{_GUESTS}.evictionThreshold": (("evictor", "reclaimed_overuse.ratio", _reclaimed_cpu),),
    f"{_GUESTS}.softEvictionThreshold": (("evictor", "reclaimed_overuse.calm", _reclaimed_cpu),),
    f"{_GUESTS}.thresholdMetToleranceDuration": (("evictor", "reclaimed_overuse.hold", _seconds),),
    f"{_GUESTS}.gracePeriod": _GRACE,
    f"{_ROOTFS}.enableRootfsPressureEviction": (("evictor", "rootfs_pressure.dry_run", _not),),
    f"{_ROOTFS}.gracePeriod": _GRACE,
}
