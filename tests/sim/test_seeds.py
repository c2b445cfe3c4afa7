"""Twenty days with troubles, drawn by their numbers: `make nightly` lives through a thousand. See seeds.py."""

from __future__ import annotations

import os

import pytest

from neap.virtual.faults import Crash, Cut, Jump, Noise, Outage, SlowDisk
from tests.sim.seeds import drawn, told, trial

FIRST, COUNT = int(os.environ.get("NEAP_SEED", "0")), int(os.environ.get("NEAP_SEEDS", "20"))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_after_any_troubles_nothing_is_lost_and_nobody_is_held_back(seed: int) -> None:
    found = trial(seed)
    assert found == [], told(seed, found)


def test_twenty_seeds_have_every_kind_of_trouble() -> None:
    assert {type(trouble) for seed in range(20) for trouble in drawn(seed)} == {
        Crash,
        Cut,
        Jump,
        Noise,
        Outage,
        SlowDisk,
    }


def test_a_seed_is_the_same_day_for_ever() -> None:
    assert drawn(7) == drawn(7) != drawn(8)
