"""What an evictor must not forget: plain values, so that they can be kept elsewhere and given to the next one.

Inputs (usage, headroom, advice, topology) are not in it: they are said again. Nor are the ledger and the tokens, which
are stored channels, nor what is under way for a moment. Whoever starts from it acts as if it had never been away.
"""

from __future__ import annotations

import msgspec

from neap.common.model.evicting import Closure
from neap.common.model.lifecycle import Preemption
from neap.common.units import Seconds
from neap.evictor.core.history import Sent
from neap.evictor.core.hold import Held
from neap.evictor.core.tried import Squeeze


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """See module docstring."""

    heard: Seconds | None = None  # `at` of the newest report
    period: Seconds = 1.0  # of reports
    holds: dict[str, dict[str, Held]] = {}  # by rule, then scope
    spent: tuple[Seconds, ...] = ()  # when somebody was asked to leave, inside the node's window
    evicted: dict[str, tuple[Seconds, ...]] = {}  # the same by family, over the last day
    sent: dict[str, Sent] = {}  # commands by uid
    requests: tuple[tuple[Seconds, Preemption], ...] = ()  # of the scheduler, that wait
    closed: dict[str, Closure] = {}  # by rule
    squeeze: Squeeze = Squeeze()
    started: dict[str, tuple[int, Seconds]] = {}  # attempt of a guest and when it was placed, by uid
    start_costs: dict[str, Seconds] = {}  # by uid
    starting: dict[str, Seconds] = {}  # guests placed since then that were not seen to run yet
    would: dict[str, Seconds] = {}  # when a rule on a dry run last chose somebody, by rule and uid
    paused: bool = False  # and it was said
