"""Ways to lend, by name: settings for the rooms, so that several can live through the same day.

All of them run through the same rooms, on the same hardware, with the same submissions; they differ in nothing but
the settings below. What a name stands for is said wherever its figures are shown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from neap.common.errors import SettingsError
from neap.common.units import Seconds
from neap.virtual.pace import PLAIN_ROOMS, plain_settings, planner_settings
from neap.virtual.simulation import ROOMS

AT_ONCE: Final = ("advisor.offer_rise=1.0", "advisor.offer_drop=1.0")  # an offer is what the formula says
PEER: Final = (
    *AT_ONCE,
    "advisor.provision=provision_koordinator",
    "advisor.headroom=headroom_koordinator",
    "advisor.overlap=true",  # owners run on all CPUs that are not dedicated,
    "advisor.reclaimed_minimum=3600",  # and guests behind them, on all of these
    "advisor.grow_step=1.0",  # its suppression grows by 10 % of the node a second: between two reports to any size
    "advisor.publish_change=0.10",
    "evictor.reclaimed_overuse.ratio=1.1",  # its eviction by allocatable: at 110 %, down to 100 %
)


@dataclass(frozen=True)
class LendingPolicy:
    """A name, what it does in a sentence, and the settings that make it so.

    `promises`: beside its offer it says how much of it will be there for a while; else the offer is the promise.
    `window`: over which it averages owners' use, however often reports come; 0: as the advisor's settings have it.
    """

    name: str
    said: str
    settings: tuple[str, ...] = ()
    rooms: tuple[str, ...] = ROOMS
    promises: bool = False
    window: Seconds = 0.0

    def at(self, period: Seconds) -> tuple[str, ...]:
        """The settings where a report comes every `period` seconds.

        smoothing = min(1, 2 / (window / period + 1))        the weight of as many reports as the window has
        """
        if not self.window:
            return self.settings
        return (f"advisor.smoothing={min(1.0, 2 / (self.window / period + 1)):.6g}", *self.settings)


POLICIES: Final = {
    policy.name: policy
    for policy in (
        LendingPolicy("neap", "the defaults of neap", promises=True),
        LendingPolicy(
            "neap+planner",
            "neap with the planner, which was told a simulated record of the services' days before",
            tuple(planner_settings()),
            (*ROOMS, "planner"),
            promises=True,
        ),
        LendingPolicy(
            "peer",
            "Koordinator's batch formula (reclaim 60 %, 300 s), suppress rule (65 %) and eviction by allocatable",
            PEER,
            window=300.0,
        ),
        LendingPolicy(
            "static",
            "a fixed reservation: guests get what owners' requests leave, whatever is used",
            (*AT_ONCE, "advisor.provision=provision_fixed", "advisor.promise_margin=10.0"),  # nothing is taken back
        ),
        LendingPolicy(
            "online-only",
            "owners alone, as plain Kubernetes runs them; nothing is lent",
            tuple(plain_settings()),
            PLAIN_ROOMS,
        ),
    )
}


def policy_named(text: str) -> LendingPolicy:
    """A policy by its name, or a name with settings of your own: "neap,advisor.grow_step=0.2".

    Raises:
        SettingsError: there is no such policy, or what follows is no `section.key=value`.
    """
    name, *own = (part.strip() for part in text.split(","))
    policy = POLICIES.get(name)
    if policy is None:
        raise SettingsError(f"policy {name!r}: there is no such policy (known: {', '.join(POLICIES)})")
    for pair in own:
        section, dot, rest = pair.partition(".")
        if not (section and dot and "=" in rest):
            raise SettingsError(f"policy {text!r}: {pair!r} is no SECTION.KEY=VALUE")
    if not own:
        return policy
    said = f"{policy.said}; with {', '.join(own)}"
    return replace(policy, name=text, said=said, settings=(*policy.settings, *own))
