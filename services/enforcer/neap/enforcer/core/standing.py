"""Which advice holds, and until when. No advice, lapsed advice and withdrawn advice are one state: safe.

lapse = expires + grace       [s of the clock port]
"""

from __future__ import annotations

from neap.common.model.advice import NodeAdvice
from neap.common.model.enforcement import Stance
from neap.common.units import Seconds, format_duration


class Standing:
    """See module docstring; nothing counts before `sync`, when all stored advice has been heard."""

    def __init__(self, node: str, grace: Seconds, period: Seconds) -> None:
        self._node, self._grace, self._period = node, grace, period
        self.advice: NodeAdvice | None = None
        self.is_safe = False
        self._since = 0  # seq of the advice with which following began
        self._lapses_at: Seconds | None = None
        self._why_safe = ""

    @property
    def is_synced(self) -> bool:
        """Whether all stored advice has been heard."""
        return self._lapses_at is not None

    @property
    def seq(self) -> int:
        """Of the advice heard last."""
        return self.advice.seq if self.advice is not None else 0

    def refusal(self, advice: NodeAdvice, at: Seconds) -> str:
        """Why an advice does not count at all."""
        if advice.node != self._node:
            return "other node"
        return "from the future" if advice.at > at + self._grace + self._period else ""  # it would outdo all until then

    def is_news(self, advice: NodeAdvice) -> bool:
        """Whether it is younger than what was heard before."""
        before = self.advice
        return before is None or (advice.at, advice.seq) > (before.at, before.seq)

    def follow(self, advice: NodeAdvice) -> None:
        """It holds from now on."""
        if self.advice is None or self.is_safe:
            self._since = advice.seq
        self.advice, self.is_safe = advice, False
        if self._lapses_at is not None:
            self._lapses_at = advice.expires + self._grace

    def withdraw(self, at: Seconds) -> None:
        """The advice was deleted."""
        if self._lapses_at is not None and at + self._grace < self._lapses_at:
            self._lapses_at, self._why_safe = at + self._grace, f"advice {self.seq} was withdrawn"

    def sync(self, at: Seconds) -> None:
        """Everything stored has been heard."""
        self._lapses_at = (at if self.advice is None else self.advice.expires) + self._grace

    def lapse(self, at: Seconds) -> bool:
        """Whether the safe state begins now."""
        if self._lapses_at is None or self.is_safe or at <= self._lapses_at:
            return False
        grace = format_duration(self._grace)
        if self.advice is None:
            self._why_safe = f"no advice within {grace} of the start"
        else:
            told = self._why_safe or f"advice {self.seq} expired at {self._lapses_at - self._grace:.3f}"
            self._why_safe = f"{told} and was not renewed within {grace}"
        self.is_safe = True
        return True

    def stop(self, at: Seconds) -> None:
        """The enforcer ends."""
        self.is_safe, self._lapses_at, self._why_safe = True, at, "the enforcer stops"

    def told(self) -> tuple[Stance, str]:
        """The stance, and why."""
        if self.is_safe:
            return Stance.SAFE, self._why_safe + ": the node goes back to what kubelet would run"
        if self.advice is None:
            return Stance.WAITING, "no advice yet"
        return Stance.FOLLOWING, f"since advice {self._since}"
