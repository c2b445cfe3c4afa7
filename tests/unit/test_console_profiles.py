"""`neap profile`, `predict`, `machine-types` and `waste`: the numbers people read, and the questions that do not hold."""

from __future__ import annotations

import pytest

from neap.common.errors import InputError
from neap.common.model.indicator import Indicator
from neap.common.model.placement import Placement
from neap.common.model.profile import (
    MACHINE_LABEL,
    MEMORY_BANDWIDTH,
    Baseline,
    MachineType,
    Observation,
    ProfileAnswer,
    ServiceProfile,
    Window,
)
from neap.common.model.resource import CPU, MEMORY
from neap.console.core import profileview, waste
from neap.console.shell.profiles import named
from tests.unit.scheduler_world import a_guest, an_owner

TABLE = {
    name: MachineType(name=name, speeds={MEMORY_BANDWIDTH: speed})
    for name, speed in {"M1": 1000.0, "M2": 2000.0, "M3": 4000.0}.items()
}
KEY = "feed/Deployment/feed"


def a_profile(machine: str = "M1", use: float = 100.0, key: str = KEY, **more: object) -> ServiceProfile:
    seen = Observation(
        kind=MEMORY_BANDWIDTH,
        machine=machine,
        windows=(Window(start=1724342400.0, containers={"main": use}),),
        pod_hours=40.0,
    )
    told = {"at": 1.0, "source": "planner", "key": key, "version": "3f2a19c0ffee", "observations": (seen,)}
    return ServiceProfile(**{**told, **more})  # type: ignore[arg-type]


def test_a_prediction_shows_its_arithmetic() -> None:
    table = TABLE | {"M4": MachineType(name="M4", speeds={MEMORY_BANDWIDTH: 3000.0})}
    assert profileview.prediction(a_profile(), "M4", 8, table).splitlines() == [
        "feed/Deployment/feed version 3f2a19c0ffee on M4, a pod of 8 cores",
        "  neap.io/memory-bandwidth  100/core × 3 (3000 / 1000) × 8 = 2 400 bytes/s  (observed on M1, 40 pod hours)",
    ]
    assert "100/core × 1 × 8 = 800 bytes/s" in profileview.prediction(a_profile(), "M1", 8, table)


def test_a_prediction_from_an_unknown_machine_is_at_ratio_one_and_flagged() -> None:
    told = profileview.prediction(a_profile(machine=""), "M2", 8, TABLE)
    assert "100/core × 1 × 8 = 800 bytes/s  (observed on machines of unknown type" in told
    assert "speed of a machine or M2 unknown, taken as equal" in told


def test_a_machine_type_nobody_knows_is_refused_and_the_known_ones_are_named() -> None:
    with pytest.raises(InputError, match="machine type 'M9' is in no table.*known: M1, M2, M3"):
        profileview.prediction(a_profile(), "M9", 8, TABLE)
    empty = ServiceProfile(at=0, source="planner", key=KEY, version="1")
    with pytest.raises(InputError, match="nothing was observed"):
        profileview.prediction(empty, "M1", 8, TABLE)


def test_machine_types_have_a_ratio_row_and_a_count_of_nodes() -> None:
    labels = {"n1": {MACHINE_LABEL: "M1"}, "n2": {MACHINE_LABEL: "M1"}, "n3": {MACHINE_LABEL: "M7"}, "n4": {}}
    assert profileview.machine_types(TABLE, labels).splitlines() == [
        "neap.io/memory-bandwidth (use scales up with the machine)",
        "TYPE  SPEED   ×M1  ×M2  ×M3  NODES",
        "M1     1000     1    2    4      2",
        "M2     2000   0.5    1    2      0",
        "M3     4000  0.25  0.5    1      0",
        "1 nodes without a label neap.io/machine-type: machine type unknown, ratio 1",
        "1 nodes of type M7, which is in no table: machine type unknown, ratio 1",
    ]
    assert "every ratio is 1" in profileview.machine_types({}, {})
    assert profileview.machine_types_json(TABLE, labels)["nodes"] == {"": 1, "M1": 2, "M2": 0, "M3": 0, "M7": 1}


def test_a_profile_is_told_with_what_is_unsure_of_it() -> None:
    hours = tuple(float(100 * hour) for hour in range(24))
    profile = a_profile(
        portrait={CPU: hours, MEMORY: (float(1 << 30),) * 24},
        used={CPU: 2400.0},
        baseline=Baseline(percent=50, sentinel=(1.0, "feed-1")),
        indicators=(Indicator(name="RPCLatency", lower=10, upper=50, current=60),),
    )
    told = profileview.text(KEY, ProfileAnswer(profile=profile, says="unstable; late"), 61.0)
    for part in (
        "version 3f2a19c0ffee (planner, 1m ago)",
        "neap.io/memory-bandwidth on M1  100 bytes/s per core  (busiest hour 2024-08-22 16:00Z, 40 pod hours)",
        "0.00 cores .. 2.30 cores a pod",
        "cpu p99  2.40 cores a pod",
        "the oldest 50 %, up to feed-1",
        "business indicator RPCLatency  10 .. 50, now 60",
        "it fares poor",
        "note: late",
    ):
        assert part in told
    assert profileview.text(KEY, ProfileAnswer(says="profile: none"), 0) == f"{KEY}: profile: none"
    assert profileview.bars([0, 1, 2]) == " ▄█"
    assert profileview.bars([0.0, 0.0]) == "  "


@pytest.mark.parametrize("name", ["cart", "shop/cart", "shop/Deployment/", "a/b/c/d", ""])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="write NAMESPACE/KIND/NAME"):
        named(name)


# -- waste -----------------------------------------------------------------------------------------------------------


def pods(count: int, name: str, namespace: str = "feed", *, cores: float = 8) -> list[Placement]:
    made = (an_owner(f"{name}-{i}", namespace=namespace, owner=f"Deployment/{name}", cores=cores) for i in range(count))
    return [Placement(workload=workload, charged=workload.requests) for workload in made]


def test_waste_is_the_request_less_the_use_by_service_and_summed_by_namespace() -> None:
    profiles = {
        KEY: a_profile(used={CPU: 3000.0}),
        "search/Deployment/s": a_profile(key="search/Deployment/s", used={CPU: 9000.0}),
    }
    guest = a_guest("g", owner="Deployment/feed", namespace="feed")
    held = [*pods(10, "feed"), *pods(1, "s", "search"), *pods(2, "new"), Placement(workload=guest, charged={})]
    rows = waste.services(held, profiles, CPU)
    assert [(row.name, row.pods, row.asked, row.used, row.wasted, row.unknown) for row in rows] == [
        (KEY, 10, 80_000, 30_000, 50_000, 0),
        ("feed/Deployment/new", 2, 0, 0, 0, 16_000),
        ("search/Deployment/s", 1, 8000, 9000, 0, 0),
    ]
    assert rows[0].version == "3f2a19c0ffee"
    spaces = waste.by_namespace(rows)
    assert [(row.name, row.pods, row.wasted, row.unknown, row.top) for row in spaces] == [
        ("feed", 12, 50_000, 16_000, "Deployment/feed"),
        ("search", 1, 0, 0, ""),
    ]
    assert waste.text(spaces, CPU, 414_000, "NAMESPACE").splitlines() == [
        "NAMESPACE  PODS  REQUEST  P99 USE  WASTE  USE UNKNOWN      TOP SERVICE",
        "feed         12     80.0     30.0   50.0         16.0  Deployment/feed",
        "search        1      8.0      9.0    0.0          0.0                -",
        "TOTAL        13     88.0     39.0   50.0         16.0                -",
        "source: requests by the ledgers, use by the services' profiles (p99 of a pod); guests are left out",
        "lent or on offer just now, on all nodes: 414.0",
    ]
    assert waste.as_json(rows, CPU)["rows"][0]["wasted"] == 50_000
