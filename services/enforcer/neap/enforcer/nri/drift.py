"""What a container lacks of what it should have."""

from __future__ import annotations

from neap.common.cpuset import parse_cpuset
from neap.common.errors import InputError
from neap.enforcer.nri.model import Resources


def drift(found: Resources, wanted: Resources) -> Resources | None:
    """Only what is wanted and differs; None if nothing does. What is not wanted is nobody's business here.

    CPU lists are compared as sets: "0,1,2" is "0-2".
    """
    rest = Resources(
        cpus="" if _same_list(found.cpus, wanted.cpus) else wanted.cpus,
        mems="" if _same_list(found.mems, wanted.mems) else wanted.mems,
        shares=_unless(found.shares, wanted.shares),
        quota=_unless(found.quota, wanted.quota),
        period=_unless(found.period, wanted.period),
        memory_limit=_unless(found.memory_limit, wanted.memory_limit),
        unified={file: text for file, text in wanted.unified.items() if found.unified.get(file) != text},
    )
    return None if rest == Resources() else rest


def _unless(found: int | None, wanted: int | None) -> int | None:
    return None if wanted == found else wanted


def _same_list(found: str, wanted: str) -> bool:
    try:
        return parse_cpuset(found) == parse_cpuset(wanted)
    except InputError:
        return found == wanted
