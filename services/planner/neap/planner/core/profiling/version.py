"""The version of a profile is its content: who reads it in a decision can tell whether two were made with the same.

    version   = first 12 hex digits of SHA-256 over everything but when and by whom it was said
    news      = an amount moved by more than a share of the larger, or something that is no amount differs

Source: Katalyst SPD controller (12 hex of SHA-256 over sentinel, spec and status); requirements 004-31.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from neap.common.model.profile import Observation, ServiceProfile
from neap.common.units import Ratio

LENGTH: Final = 12
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def versioned(profile: ServiceProfile) -> ServiceProfile:
    """The same under the version of its content."""
    content = _ENCODER.encode(msgspec.structs.replace(profile, at=0.0, source="", version=""))
    return msgspec.structs.replace(profile, version=sha256(content).hexdigest()[:LENGTH])


def is_news(before: ServiceProfile, now: ServiceProfile, share: Ratio) -> bool:
    """Whether who has the one needs the other."""
    if (before.baseline, before.indicators) != (now.baseline, now.indicators):
        return True
    seen = ({_name(one): one for one in profile.observations} for profile in (before, now))
    first, second = seen
    if first.keys() != second.keys() or any(first[name].stable != second[name].stable for name in first):
        return True
    if any(_moved(first[name].peak, second[name].peak, share) for name in first):
        return True
    if _hours_moved(before.swing, now.swing, share):
        return True
    return _hours_moved(before.portrait, now.portrait, share) or _hours_moved(
        {kind: (amount,) for kind, amount in before.used.items()},
        {kind: (amount,) for kind, amount in now.used.items()},
        share,
    )


def _name(one: Observation) -> tuple[str, str]:
    return one.kind, one.machine


def _hours_moved(before: Mapping[str, Sequence[float]], now: Mapping[str, Sequence[float]], share: Ratio) -> bool:
    """Against the largest of the day: an hour of nearly nothing may double."""
    if before.keys() != now.keys():
        return True
    for kind, hours in before.items():
        most = max(*hours, *now[kind], 0.0)
        if len(hours) != len(now[kind]) or any(
            abs(a - b) > share * most for a, b in zip(hours, now[kind], strict=True)
        ):
            return True
    return False


def _moved(before: float, now: float, share: Ratio) -> Any:
    return not abs(before - now) <= share * max(before, now)  # NaN moved
