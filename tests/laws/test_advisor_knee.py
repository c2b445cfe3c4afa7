"""What is learned from paired business and system metrics: the knee if there is one, and otherwise nothing."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from neap.advisor.core.knee import Settings, learn

SETTINGS = Settings()
Sample = tuple[float, float]


def hinged(seed: int, knee: float, count: int, noise: float, steep: float = 10.0) -> list[Sample]:
    """Latency 40 ms, hardly rising up to the knee and `steep` times faster behind it; x to 1000."""
    rng = random.Random(seed)
    slope = steep * 0.02
    rise = 40 * 0.02 + slope * (1000 - knee)
    xs = [rng.uniform(0, 1000) for _ in range(count)]
    return [(x, 40 + 0.02 * min(x, knee) + slope * max(0.0, x - knee) + rng.gauss(0, noise * rise)) for x in xs]


@given(st.integers(0, 2**32), st.floats(300, 700), st.integers(300, 1500), st.floats(0, 0.05))
@example(1, 460.0, 400, 0.03)
def test_the_target_is_within_ten_percent_of_the_knee(seed: int, knee: float, count: int, noise: float) -> None:
    model = learn(hinged(seed, knee, count, noise), SETTINGS)
    assert model.target == pytest.approx(knee, rel=0.10), model
    assert 0.5 <= model.confidence <= 1


@given(st.integers(0, 2**32), st.floats(300, 700), st.floats(0.01, 1000), st.floats(0.01, 1000))
def test_units_do_not_matter(seed: int, knee: float, x_unit: float, y_unit: float) -> None:
    samples = hinged(seed, knee, 300, 0.02)
    plain = learn(samples, SETTINGS)
    other = learn([(x * x_unit, y * y_unit) for x, y in samples], SETTINGS)
    assert plain.target is not None
    assert other.target == pytest.approx(plain.target * x_unit, rel=1e-6)
    assert other.confidence == pytest.approx(plain.confidence, abs=1e-6)


@given(st.integers(0, 2**32), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_move_the_knee(seed: int, rng: random.Random) -> None:
    samples = hinged(seed, 460, 200, 0.0)
    shuffled = list(samples)
    rng.shuffle(shuffled)
    model = learn(shuffled, SETTINGS)
    assert model.target == pytest.approx(learn(samples, SETTINGS).target)


def straight(rng: random.Random) -> Sample:
    x = rng.random()
    return x, 2 * x + rng.gauss(0, 0.1)


def flattening(rng: random.Random) -> Sample:
    x = rng.random()
    return x, math.sqrt(x) + rng.gauss(0, 0.02)


def unrelated(rng: random.Random) -> Sample:
    return rng.random(), rng.random()


def valley(rng: random.Random) -> Sample:
    x = rng.random()
    return x, abs(x - 0.35) + rng.gauss(0, 0.02)


@pytest.mark.parametrize(
    ("curve", "why"),
    [
        (straight, "straight line"),
        (flattening, "more slowly, not faster"),
        (unrelated, "rank correlation"),
        (valley, "rank correlation|not monotone"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("seed", range(8))
def test_without_a_knee_there_is_no_model_and_it_says_why(curve, why: str, seed: int) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(seed)
    model = learn([curve(rng) for _ in range(400)], SETTINGS)
    assert model.target is None
    assert model.confidence == 0
    assert model.reason.startswith("no model: ")
    assert any(part in model.reason for part in why.split("|")), model.reason


def test_with_too_few_samples_there_is_no_model() -> None:
    model = learn(hinged(1, 460, 59, 0.0), SETTINGS)
    assert model.target is None
    assert model.reason == "no model: 59 samples, 60 are needed"


def test_a_business_target_that_is_broken_before_the_knee_comes_first() -> None:
    samples = hinged(1, 460, 400, 0.0)
    assert learn(samples, SETTINGS, bound=60).target == pytest.approx(460, rel=0.02)
    early = learn(samples, SETTINGS, bound=44)
    assert early.target == pytest.approx(200, rel=0.05)
    assert "before the knee" in early.reason
    assert learn(samples, SETTINGS, bound=10).reason == "no model: the business metric is above 10 everywhere"


ANY = st.floats() | st.sampled_from((0.0, 1.0, 1e300, -1e300))


@given(st.lists(st.tuples(ANY, ANY), max_size=120))
def test_whatever_is_fed_the_target_lies_within_what_was_seen(samples: list[Sample]) -> None:
    model = learn(samples, Settings(least=20))
    assert model.reason
    assert 0 <= model.confidence <= 1
    if model.target is not None:
        xs = [x for x, y in samples if math.isfinite(x) and math.isfinite(y)]
        assert min(xs) <= model.target <= max(xs)
