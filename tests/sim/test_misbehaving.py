"""A day of pods that misbehave, under faults: every promise holds as on any other day."""

from __future__ import annotations

import pytest

from neap.common.units import MINUTE
from neap.virtual.faults import Crash, Noise, Outage, Trouble
from tests.sim.small import DAY, examples, flaws, live

WILD = (
    DAY.replace('name = "cart"', 'name = "cart"\nburst = 1.5\nburst_every = "5m"\nleak = "300Mi"')
    .replace('name = "index"', 'name = "index"\npress = 0.5\ncheckpoint = "3m"')
    .replace('name = "rush"', 'name = "rush"\nburst = 2.0\nburst_every = "4m"')
    + """
[[guest]]               # is killed for its leak, again and again
name = "leaky"
copies = 4
at = "5m"
every = "1m"
cpu = "1"
memory = "128Mi"
duration = "20m"
leak = "1500Mi"
"""
)
TROUBLES: tuple[Trouble, ...] = (
    Noise("neap.v1.node.>", "delay", at=6 * MINUTE, away=9 * MINUTE, share=0.5, most=90.0),
    Outage(at=12 * MINUTE, away=20),
    Crash("scheduler", "", at=15 * MINUTE, away=40),
)


@pytest.mark.parametrize(("troubles", "seed"), [((), 1), (TROUBLES, 1), (TROUBLES, 2)])
def test_with_bursts_leaks_noisy_neighbours_and_checkpoints_every_promise_holds(
    troubles: tuple[Trouble, ...], seed: int
) -> None:
    file = examples() / "wild.toml"
    file.write_text(WILD)
    lived = live(troubles, f"virtual.file={file}", seed=seed)
    assert flaws(lived) == []
    whys = [item.message.why for item in lived.history.trail]
    assert any("ran out of memory in it" in why for why in whys), "nobody leaked enough"
