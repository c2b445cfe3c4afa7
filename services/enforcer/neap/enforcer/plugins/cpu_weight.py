"""cpu.weight: a cgroup's share of contended CPU against its siblings.

    share = weight / Σ weight of the siblings that want CPU       [1..10000, the kernel starts at 100]

While cpu.idle is 1 the kernel shows 0, refuses a write, and afterwards starts at 100 again.
Source: kernel documentation, admin-guide/cgroup-v2, "CPU Interface Files".
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

from neap.enforcer.core.knob import Knob, between, whole

PLUGIN: Final = Knob(
    file="cpu.weight",
    value=attrgetter("cpu_weight"),
    format=between(1, 10_000, "of weight"),
    parse=whole,
    muted_by="cpu.idle",
    turn=lambda wanted, read: 2,  # noqa: ARG005  after cpu.idle
)
