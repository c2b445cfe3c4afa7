"""What people say in our kinds and in Katalyst's, and what becomes of it on the bus."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from neap.advisor.wiring import tunable as advisor
from neap.common.contract.catalogue import NODES, PLACEMENTS, POLICY, TOPOLOGY
from neap.common.errors import InputError, SettingsError
from neap.common.kube.crd import DEFINITIONS
from neap.common.kube.katalyst import (
    ADMIN_QOS,
    NODE_MIRRORS,
    OVERCOMMIT_CONFIGS,
    PROFILE_DESCRIPTORS,
    NodeOvercommitConfig,
)
from neap.common.kube.kind import Kind
from neap.common.kube.objects import Condition, Metadata, Node, NodeStatus
from neap.common.kube.own import ACCEPTED, GPU_POOLS, NODE_POOL_POLICIES, SERVICE_PROFILES
from neap.common.kube.spd import moment
from neap.common.model.device import Enforcement
from neap.common.model.node import NodeObject
from neap.common.model.placement import Placed
from neap.common.model.profile import MEMORY_BANDWIDTH
from neap.common.runtime.machine import Arrived, Put, Synced
from neap.evictor.wiring import tunable as evictor
from neap.gateway.core.kinds.admin_qos import HONOURED
from neap.gateway.core.kinds.reading import Reading, Said
from neap.gateway.core.kinds.table import KINDS, edited, gpu_pool_status, ratios, read, verdict
from neap.gpushare.settings import Settings as GpushareSettings
from neap.gpushare.wiring import wire as gpushare
from tests.conftest import ROOT
from tests.unit.test_gpushare_machine import a_slice, a_topology

NOW = 1_800_000_000.0
EXAMPLES = sorted((ROOT / "examples/kubernetes").rglob("*.yaml"))
BY_NAME = {(f"{one.kind.group}/{one.kind.version}", one.kind.name): one.kind for one in DEFINITIONS}


def documents(path: Path) -> list[dict[str, Any]]:
    return [one for one in yaml.safe_load_all(path.read_text()) if one]


def ours(path: Path) -> list[tuple[Kind[Any], Any]]:
    found = []
    for one in documents(path):
        kind = BY_NAME.get((one["apiVersion"], one["kind"]))
        if kind is not None:
            found.append((kind, msgspec.convert(one, kind.model)))
    return found


def made(kind: Kind[Any], name: str = "x", *, metadata: dict[str, Any] | None = None, **fields: Any) -> Any:
    return msgspec.convert({"metadata": {"name": name, "namespace": "shop", **(metadata or {})}, **fields}, kind.model)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_of_our_kinds_is_understood(path: Path) -> None:
    for kind, value in ours(path):
        reading = read(kind, value, NOW)
        assert not reading.flaw, f"{path.name}: {reading.flaw}"


def test_every_kind_that_people_write_is_read() -> None:
    assert set(KINDS) == {one.kind for one in DEFINITIONS} - {NODE_MIRRORS}


def test_a_profile_becomes_the_bus_profile_of_its_workload() -> None:
    [(kind, value)] = ours(ROOT / "examples/kubernetes/profile.yaml")
    [profile] = read(kind, value, NOW).profiles
    assert (profile.key, profile.baseline.percent) == ("default/Deployment/cart", 20)
    assert {(one.kind, one.machine, one.peak) for one in profile.observations} == {
        (MEMORY_BANDWIDTH, "m1", 1e8),
        (MEMORY_BANDWIDTH, "m2", 1.8e8),
    }


def test_a_policy_becomes_an_edition_per_room_that_the_rooms_accept() -> None:
    [(kind, value)] = ours(ROOT / "examples/kubernetes/policy.yaml")
    reading = read(kind, value, NOW)
    assert [(said.room, said.name) for said in reading.said] == [
        ("advisor", "npp.batch-at-night"),
        ("evictor", "npp.batch-at-night"),
    ]
    edition = reading.said[0].edition
    assert (edition.scope, edition.canary, str(edition.schedule)) == ("pool=batch", 0.1, "22:00-06:00 +01:00")
    settled(reading)


def settled(reading: Reading) -> dict[str, dict[str, Any]]:
    """What the rooms make of it: they refuse unknown keys and values out of bounds."""
    rooms = {"advisor": advisor(), "evictor": evictor()}
    found = {}
    for said in reading.said:
        tunable = rooms[said.room]
        found[said.room] = dict(tunable.read(said.name, said.edition, tunable.kind()))
    return found


def admin(config: dict[str, Any], **spec: Any) -> Any:
    return made(ADMIN_QOS, spec={"config": config, **spec})


def nested(path: str, value: Any) -> dict[str, Any]:
    for name in reversed(path.split(".")):
        value = {name: value}
    return value


SAMPLES = (True, 2, "2", "5m", "0.5", {"resource.katalyst.kubewharf.io/reclaimed_millicpu": 10})


@pytest.mark.parametrize("path", sorted(HONOURED))
def test_every_field_that_is_honoured_is_a_setting_that_its_room_takes(path: str) -> None:
    for sample in SAMPLES:
        reading = read(ADMIN_QOS, admin(nested(path, sample)), NOW)
        try:
            if not reading.flaw and settled(reading):
                assert not reading.remarks
                return
        except (InputError, SettingsError):  # out of the room's bounds: the next sample may fit
            continue
    pytest.fail(f"no sample fits {path}")


def test_what_katalyst_says_and_neap_has_not_is_told_and_the_rest_holds() -> None:
    reading = [read(kind, value, NOW) for kind, value in ours(ROOT / "examples/kubernetes/katalyst/eviction.yaml")][1]
    assert settled(reading) == {"evictor": {"reclaimed_overuse.ratio": 10.0, "numa_memory.dry_run": True}}
    assert reading.remarks == (
        "config.evictionConfig.memoryPressureEvictionConfig.systemKswapdRateThreshold: no counterpart",
    )
    [condition] = verdict(reading, Metadata(name="x", generation=3), NOW)
    assert (condition.status, condition.reason, condition.observed_generation) == ("True", "PartlyHonoured", 3)
    assert "systemKswapdRateThreshold" in condition.message


@pytest.mark.parametrize(
    ("spec", "scopes", "expires"),
    [
        ({}, ["cluster"], None),
        ({"nodeLabelSelector": "neap.io/pool=ads"}, ["pool=ads"], None),
        ({"ephemeralSelector": {"nodeNames": ["n1", "n2"], "lastDuration": "1h"}}, ["node=n1", "node=n2"], NOW + 3600),
    ],
)
def test_katalysts_tiers_are_ours(spec: dict[str, Any], scopes: list[str], expires: float | None) -> None:
    reading = read(ADMIN_QOS, admin({"reclaimedResourceConfig": {"enableReclaim": False}}, **spec), NOW)
    assert [said.edition.scope for said in reading.said] == scopes
    assert {said.edition.expires for said in reading.said} == {expires}
    assert settled(reading) == {"advisor": {"lend": False}}


@pytest.mark.parametrize(
    ("config", "spec", "says"),
    [
        ({"reclaimedResourceConfig": {"enableReclaim": "yes"}}, {}, r"enableReclaim = 'yes': true or false"),
        ({"reclaimedResourceConfig": {"enableReclaim": True}}, {"nodeLabelSelector": "a=b,c=d"}, "neap.io/pool=NAME"),
        (
            {
                "evictionConfig": {
                    "cpuPressureEvictionConfig": {"gracePeriod": 30},
                    "memoryPressureEvictionConfig": {"gracePeriod": 60},
                }
            },
            {},
            "say different things of evictor.grace",
        ),
    ],
)
def test_what_cannot_be_followed_is_not_accepted_and_says_why(config: Any, spec: Any, says: str) -> None:
    reading = read(ADMIN_QOS, admin(config, **spec), NOW)
    assert not reading.said
    [condition] = verdict(reading, Metadata(name="x"), NOW)
    assert (condition.type, condition.status, condition.reason) == (ACCEPTED, "False", "NotUnderstood")
    assert re.search(says, condition.message)


def test_a_paused_configuration_changes_nothing() -> None:
    reading = read(ADMIN_QOS, admin({"reclaimedResourceConfig": {"enableReclaim": False}}, paused=True), NOW)
    assert reading.hold
    assert not reading.said
    assert verdict(reading, Metadata(name="x"), NOW)[0].reason == "Paused"


def overcommit(name: str, born: str, cpu: str, pool: str = "p") -> NodeOvercommitConfig:
    return made(
        OVERCOMMIT_CONFIGS,
        name,
        metadata={"creationTimestamp": born},
        spec={"nodeOvercommitSelectorVal": pool, "resourceOvercommitRatio": {"cpu": cpu}},
    )


def test_of_several_overcommit_configs_of_a_pool_the_newest_counts() -> None:
    old, new = overcommit("b", "2026-01-01T00:00:00Z", "3"), overcommit("a", "2026-02-01T00:00:00Z", "2.5")
    label = {"katalyst.kubewharf.io/overcommit_node_pool": "p"}
    assert ratios([new, old], label) == ratios([old, new], label) == {"cpu": 2.5}
    assert ratios([old, new], {}) == {}
    assert ratios([overcommit("c", "", "2", pool="q")], label) == {}


def test_a_descriptors_bandwidth_is_kept_by_machine_type() -> None:
    item = {
        "timestamp": "2024-08-22T16:00:00Z",
        "window": "1h0m0s",
        "containers": [{"name": "main", "usage": {"memory_bandwidth-M1": "100", "cpu_simd": "3"}}],
    }
    spd = made(
        PROFILE_DESCRIPTORS,
        metadata={"annotations": {"spd.katalyst.kubewharf.io/baselineSentinel": '{"timeStamp":"2024-08-22T16:00:00Z","podName":"w-1"}'}},
        spec={"targetRef": {"kind": "Deployment", "name": "w"}, "baselinePercent": 50},
        status={"aggMetrics": [{"aggregator": "avg", "items": [item]}, {"aggregator": "max", "items": [item]}]},
    )  # fmt: skip
    reading = read(PROFILE_DESCRIPTORS, spd, NOW)
    [profile] = reading.profiles
    [seen] = profile.observations
    assert (profile.key, seen.machine, seen.peak) == ("shop/Deployment/w", "M1", 100e6)
    assert profile.baseline.sentinel == (moment("2024-08-22T16:00:00Z"), "w-1")
    assert reading.remarks == ("aggregator max of memory_bandwidth is not used: avg is",)


def test_the_same_said_twice_is_one_edition_and_a_change_is_a_new_one() -> None:
    pool = made(GPU_POOLS, "a", spec={"pool": "a100", "mps": True})
    [said] = read(GPU_POOLS, pool, NOW).said
    first = edited(None, said)
    assert first is not None
    [again] = read(GPU_POOLS, pool, NOW + 60).said
    assert edited(first, again) is None
    changed = Said(said.room, said.name, msgspec.structs.replace(said.edition, patch={"mps": False}))
    second = edited(first, changed)
    assert second is not None
    assert [edition.version for edition in second.editions] == [2, 1]


def test_a_verdict_keeps_the_time_of_its_last_change_and_the_conditions_of_others() -> None:
    metadata = Metadata(name="x", generation=1)
    before = verdict(Reading(), metadata, NOW, [Condition(type="Theirs", status="True")])
    later = verdict(Reading(remarks=("y",)), metadata, NOW + 60, before)
    assert [one.type for one in later] == [ACCEPTED, "Theirs"]
    assert later[0].last_transition_time == before[0].last_transition_time
    assert (
        verdict(Reading(flaw="z"), metadata, NOW + 60, before)[0].last_transition_time != before[0].last_transition_time
    )


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-11-22", "2026-11-22T10:00:00"])
def test_a_time_without_a_zone_is_none(text: str) -> None:
    with pytest.raises(InputError):
        moment(text)


def test_a_policy_for_a_tier_it_cannot_be_for_is_not_accepted() -> None:
    reading = read(NODE_POOL_POLICIES, made(NODE_POOL_POLICIES, spec={"tier": "pool", "rooms": {"advisor": {"lend": True}}}), NOW)  # fmt: skip
    assert "needs a name" in reading.flaw


def test_a_profile_of_nothing_is_a_profile_of_its_key() -> None:
    value = made(SERVICE_PROFILES, spec={"target": {"kind": "StatefulSet", "name": "db"}}, metadata={"generation": 4})
    [profile] = read(SERVICE_PROFILES, value, NOW).profiles
    assert (profile.key, profile.version) == ("shop/StatefulSet/db", "g4")


def test_a_gpu_pool_bounds_the_slices_on_its_nodes_while_gpushare_runs() -> None:
    machine = gpushare(GpushareSettings(node="n1"), None).machine  # type: ignore[arg-type]
    [said] = read(GPU_POOLS, made(GPU_POOLS, "a", spec={"pool": "a100", "mps": True}), NOW).said
    document = edited(None, said)
    told: list[Any] = []
    for event in (
        Arrived(1.0, a_topology(cards=1)),
        Arrived(1.0, NodeObject(at=1.0, source="t", node="n1", labels={"neap.io/pool": "a100"})),
        Arrived(1.0, Placed(at=1.0, source="t", node="n1", placement=a_slice("u", 50, 4096), reason=""), "", 1),
        *(Synced(1.0, channel) for channel in (TOPOLOGY, NODES, POLICY, PLACEMENTS)),
        Arrived(2.0, document),
    ):
        told += machine.handle(event)
    states = [one.value for one in told if isinstance(one, Put)]
    bounds = [state.cards[0].allocations[0].enforced for state in states]
    assert bounds == [Enforcement.ACCOUNTED_ONLY, Enforcement.MPS]


def test_a_gpu_pool_shows_the_cards_of_its_nodes() -> None:
    def node(name: str, **allocatable: str) -> Node:
        amounts = {key.replace("_", "/", 1).replace("_", "-"): value for key, value in allocatable.items()}
        metadata = Metadata(name=name, labels={"neap.io/pool": "a100" if name != "other" else "b"})
        return Node(metadata=metadata, status=NodeStatus(allocatable=amounts))

    nodes = [node("n1", **{"neap.io_gpu_core": "800"}), node("n2", **{"nvidia.com_gpu": "4"}), node("other", cpu="1")]
    status = gpu_pool_status("a100", nodes)
    assert (status.nodes, status.cards, status.sharing) == (2, 12, "slices")
    assert gpu_pool_status("b", nodes).sharing == ""
