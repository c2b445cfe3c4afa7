"""From use to a request: golden cases of Katalyst's recommender, bounds, kills, start-up peaks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from neap.common.model.recommendation import ContainerSize, Sum
from neap.common.model.resource import CPU, MEMORY
from neap.common.units import DAY, GIB, HOUR, KIB, MIB
from neap.foresight.histogram import CPU as CPU_BUCKETS
from neap.foresight.histogram import MEMORY as MEMORY_BUCKETS
from neap.foresight.histogram import Histogram
from neap.foresight.rule import Advised, Aim, Known, Memory, Rule, exceeded, percentile
from neap.foresight.series import Series
from neap.foresight.sizes import average, highest, snug
from neap.foresight.sizes import percentile as percentile_rule
from neap.foresight.sizing import (
    Kill,
    Past,
    Seen,
    Way,
    evidence,
    readiness,
    saved,
    sized,
    whole_cpu,
    whole_memory,
)

NOW = 1_700_000_000.0 // HOUR * HOUR


class Says:
    """A rule that always says the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def advise(self, known: Known, aim: Aim, memory: Memory) -> Advised:
        """See Rule."""
        return Advised((1 + aim.margin) * self.value, f"{self.value:g} x {1 + aim.margin:g}")


def known(hours: Sequence[float], *, of: str = CPU, peaks: Sequence[float] | None = None) -> Known:
    """Samples every five minutes, the same through each hour but for its highest."""
    highs = np.array(peaks if peaks is not None else hours, dtype=float)
    start = NOW - len(hours) * HOUR
    histogram = Histogram(CPU_BUCKETS if of == CPU else MEMORY_BUCKETS)
    for index, (mean, high) in enumerate(zip(hours, highs, strict=True)):
        ats = start + index * HOUR + 300.0 * np.arange(1, 13, dtype=np.float64)
        histogram.add_all(np.array([mean] * 11 + [float(high)]), ats)
    return Known(histogram, Series(start, HOUR, np.array(hours, dtype=float)), Series(start, HOUR, highs))


def seen(
    cpu: Known,
    memory: Known,
    *,
    kills: Sequence[Kill] = (),
    requests: dict[str, int] | None = None,
    limits: dict[str, int] | None = None,
    startup: tuple[float, float] = (math.nan, math.nan),
) -> Seen:
    """A container seen for two weeks."""
    return Seen(
        "app", NOW - 14 * DAY, NOW, Past(cpu, startup[0]), Past(memory, startup[1]), kills, requests or {}, limits or {}
    )


def one(size: ContainerSize, resource: str) -> Sum:
    """The request of one resource."""
    return next(each for each in size.requests if each.resource == resource)


def says(cpu: float, memory: float, margin: float = 0.0, **bounds: int) -> tuple[Way, Way]:
    """Fixed rules."""
    aim = Aim(0.9, margin)
    return (
        Way(CPU, Says(cpu), aim, bounds.get("cpu_min", 0), bounds.get("cpu_max", 0)),
        Way(MEMORY, Says(memory), aim, bounds.get("memory_min", 0), bounds.get("memory_max", 0)),
    )


NOTHING = seen(known([1.0]), known([1e9], of=MEMORY))


@pytest.mark.parametrize(
    ("amount", "told"),
    [(1100, 2 * KIB), (2 * MIB, 2 * MIB), (2.66 * MIB, 3 * MIB), (1000, 1000), (0, 0), (GIB, GIB)],
)
def test_memory_is_rounded_up_as_katalyst_does(amount: float, told: int) -> None:
    """Source: katalyst-core recommender/recommenders/percentile_recommender_test.go, getMemQuantity (AC-15)."""
    assert whole_memory(amount) == told


def test_whole_gibibytes_are_kept_for_those_they_nearly_fit() -> None:
    """Difference named: Katalyst makes 2 Gi of 1.1 Gi, four fifths of it for nothing."""
    assert whole_memory(1.1 * GIB) == 1127 * MIB
    assert whole_memory(15.6 * GIB) == 16 * GIB


def test_a_value_of_1000_with_a_buffer_of_a_tenth() -> None:
    """Source: the same test: cpu 1100 cores, memory 2 Ki."""
    size = sized(NOTHING, says(1000, 1000, 0.1), NOW, {})
    assert one(size, CPU).target == 1_100_000
    assert one(size, MEMORY).target == 2 * KIB
    assert whole_cpu(1100.0000000001) == 1_100_000


@pytest.mark.parametrize(
    ("first", "last", "told"),
    [
        (None, NOW, "preparing"),
        (NOW - 20 * HOUR, NOW, "insufficient: 20h of 1 d seen"),
        (NOW - 10 * DAY, NOW - 25 * HOUR, "expired: last seen 1d1h ago"),
        (NOW - DAY, NOW, ""),
        (NOW - 2 * DAY, NOW + HOUR, ""),  # a clock that runs ahead
        (NOW + HOUR, NOW + 2 * DAY, "insufficient: nothing of 1 d seen"),
    ],
)
def test_a_recommendation_waits_for_a_day_of_fresh_samples(first: float | None, last: float, told: str) -> None:
    """Source: katalyst-core histogram_task_test.go (AC-14): DataPreparing, InsufficientSample, SampleExpiration."""
    assert readiness(first, last, NOW).startswith(told)
    assert bool(readiness(first, last, NOW)) == bool(told)


def test_two_hours_of_twenty_cores_ask_for_twenty() -> None:
    """Source: katalyst-core vpa/algorithm/recommenders/avg_load_to_cpu_test.go (AC-16)."""
    size = sized(seen(known([20, 20]), known([1e9] * 2, of=MEMORY)), [Way(CPU, average.PLUGIN)], NOW, {})
    assert one(size, CPU).target == 20_000


def test_bounds_are_shown_where_nothing_is_recommended_yet() -> None:
    """Source: katalyst-core vpa/util/resource_test.go (AC-16): lower and upper are there, the target is empty."""
    nan = known([math.nan])
    size = sized(seen(nan, nan), [Way(MEMORY, highest.PLUGIN, least=400 * MIB, most=6000 * MIB)], NOW, {})
    assert size.requests == ()
    assert (size.least, size.most) == ({MEMORY: 400 * MIB}, {MEMORY: 6000 * MIB})


def test_bounds_bind_and_say_so() -> None:
    """Katalyst answers 11 Mi under a minimum of 500 Mi (UJ-14); ours is 500 Mi."""
    size = sized(NOTHING, says(1.487, 11 * MIB, memory_min=500 * MIB, memory_max=2 * GIB, cpu_max=1000), NOW, {})
    memory, cpu = one(size, MEMORY), one(size, CPU)
    assert (memory.target, memory.bound) == (500 * MIB, "min")
    assert (cpu.target, cpu.bound) == (1000, "max")
    assert "at least 500Mi by bound, else 11Mi" in memory.arithmetic
    assert "at most 1 cores by bound, else 1.487 cores" in cpu.arithmetic


def test_a_kill_now_asks_for_100_mebibytes_more() -> None:
    """Source: percentile_recommender_test.go (AC-15): OOM at 1024 bytes -> 1024 + 100 Mi, rounded up."""
    size = sized(seen(known([1.0]), known([1e6], of=MEMORY), kills=[Kill(NOW, "u1", 1024)]), says(1, 1000), NOW, {})
    assert one(size, MEMORY).target == whole_memory(1024 + 100 * MIB) == 101 * MIB
    assert (size.oom_kills, size.worst_replica) == (1, "u1")


def test_a_kill_of_eight_days_ago_counts_no_more() -> None:
    """Source: the same test (AC-15)."""
    old = seen(known([1.0]), known([1e6], of=MEMORY), kills=[Kill(NOW - 8 * DAY, "u1", GIB)])
    size = sized(old, says(1, 2 * MIB), NOW, {})
    assert (one(size, MEMORY).target, size.oom_kills) == (2 * MIB, 0)


def test_one_replica_of_ten_that_dies_counts() -> None:
    """Kubernetes autoscaler issue 6420: a kill of one replica vanishes among the samples of the others."""
    quiet = known([200e6] * 48, of=MEMORY)
    size = sized(
        seen(known([1.0]), quiet, kills=[Kill(NOW - HOUR, "u7", 1 * GIB)]), [Way(MEMORY, highest.PLUGIN)], NOW, {}
    )
    assert one(size, MEMORY).target >= 1.2 * GIB
    assert size.worst_replica == "u7"


@pytest.mark.parametrize("had", [50 * MIB, 512 * MIB, GIB, 8 * GIB])
@pytest.mark.parametrize("need", [1.15, 1.5, 2.0, 2.3])
def test_a_loop_of_kills_ends_after_two_steps(had: int, need: float) -> None:
    """Whatever it needs, up to 2.3 times what it had: at most two kills more, then it lives."""
    kills, given = [Kill(NOW, "u1", had)], had
    for step in range(1, 4):
        given = whole_memory(evidence(kills, NOW + step * HOUR)[0])
        if given >= need * had:
            break
        kills.append(Kill(NOW + step * HOUR, "u1", given))
    assert given >= need * had
    assert step <= 2


def test_a_crash_loop_at_one_size_is_one_step() -> None:
    kills = [Kill(NOW + minute * 60, f"u{minute}", GIB) for minute in range(50)]
    assert evidence(kills, NOW + HOUR)[0] == math.ceil(1.2 * GIB)


def test_a_start_up_peak_lifts_no_request_but_a_memory_limit_holds_it() -> None:
    peak = (6.0, 3.0 * GIB)
    loose = seen(
        known([1.0] * 48),
        known([GIB / 2] * 48, of=MEMORY),
        startup=peak,
        requests={MEMORY: GIB},
        limits={MEMORY: 4 * GIB},
    )
    ways = [Way(CPU, highest.PLUGIN), Way(MEMORY, highest.PLUGIN, limit=1.5)]
    size = sized(loose, ways, NOW, {})
    assert one(size, CPU).target == 1150
    assert one(size, MEMORY).target < GIB
    assert size.limits[0].target >= 3 * GIB
    assert size.startup == {CPU: 6000, MEMORY: 3 * GIB}


def test_where_the_request_is_the_limit_it_holds_the_start() -> None:
    tight = seen(
        known([1.0] * 48), known([GIB / 2] * 48, of=MEMORY), startup=(6.0, 2.0 * GIB),
        requests={MEMORY: 4 * GIB}, limits={MEMORY: 4 * GIB},
    )  # fmt: skip
    memory = one(sized(tight, [Way(MEMORY, highest.PLUGIN)], NOW, {}), MEMORY)
    assert memory.target == 2 * GIB
    assert "start-up peak" in memory.arithmetic


def test_eight_cores_asked_for_and_two_used() -> None:
    """Source: requirements 001-09: 7 d, request 8, p95 2.1, peak 2.6 -> 2.1 x (1 + margin), with what it rests on."""
    hours = 7 * 24
    use = known([2.1] * hours, peaks=[2.1] * (hours - 24) + [2.6] * 24)
    aim = Aim(0.95, 0.2)
    assert percentile(use, 0.95) == pytest.approx(2.1, rel=0.06)  # the histogram's buckets are 5 % wide
    exact = Known(
        use.histogram, use.hours_avg, use.hours_max, Series(0.0, 300.0, np.where(np.arange(2016) % 80 == 79, 2.6, 2.1))
    )
    for rule in (percentile_rule.PLUGIN, snug.PLUGIN):
        container = seen(exact, known([1e9], of=MEMORY), requests={CPU: 8000})
        size = sized(container, [Way(CPU, rule, aim)], NOW, {})
        assert one(size, CPU).target == whole_cpu(2.1 * 1.2)
        assert "p95" in one(size, CPU).arithmetic
        assert "x 1.2" in one(size, CPU).arithmetic
        assert saved([size], 10) == {CPU: (8000 - 2520) * 10}


def test_confidence_grows_with_the_history() -> None:
    sums = []
    for days in (1, 7, 14):
        container = Seen("app", NOW - days * DAY, NOW, Past(known([1.0])), Past(known([1e9], of=MEMORY)))
        sums.append(one(sized(container, says(1, 1e9), NOW, {}), CPU).confidence)
    assert sums == sorted(sums)
    assert sums[0] == 0.5


def test_limits_come_on_wish_only() -> None:
    size = sized(NOTHING, says(1, GIB), NOW, {})
    assert size.limits == ()


def test_an_hour_above_is_told_from_its_mean_and_its_highest() -> None:
    assert exceeded(1.0, 2.0, 2.0) == 0
    assert exceeded(1.0, 2.0, 1.5) == 1 / 12
    assert exceeded(1.8, 2.0, 1.0) == pytest.approx(0.8)
    assert exceeded(math.nan, 2.0, 1.0) == 0


def test_a_step_up_is_followed_after_an_hour_and_not_a_spike() -> None:
    rule: Rule = snug.PLUGIN
    calm = known([1.0] * 48)
    stepped = known([1.0] * 47 + [3.0])
    spiked = known([1.0] * 47 + [1.2], peaks=[1.0] * 47 + [3.0])
    before = rule.advise(calm, Aim(), ()).value
    assert rule.advise(stepped, Aim(), ()).value == pytest.approx(3.0 * 1.05)
    assert rule.advise(spiked, Aim(), ()).value == pytest.approx(before, rel=0.03)


def test_nothing_known_is_said_as_such() -> None:
    nothing = Known(Histogram(), Series(0.0, HOUR, np.zeros(0)), Series(0.0, HOUR, np.zeros(0)))
    for rule in (snug.PLUGIN, highest.PLUGIN, average.PLUGIN, percentile_rule.PLUGIN):
        assert math.isnan(rule.advise(nothing, Aim(), ()).value)
    assert sized(seen(nothing, nothing), [Way(CPU, snug.PLUGIN)], NOW, {}).requests == ()


def test_what_a_rule_remembers_can_be_told_as_it_is() -> None:
    """It travels in the recommendation: a number of numpy's would end the planner."""
    use = known([2.1] * 48)
    first = snug.PLUGIN.advise(use, Aim(0.95, 0.2), ())
    hour = first.memory[0]
    later = snug.PLUGIN.advise(use, Aim(0.95, 0.2), (hour - 3, 1.0, 1.5, 0.0))  # hours above both sizes
    assert [type(number) for number in later.memory[1:]] == [float] * 3
