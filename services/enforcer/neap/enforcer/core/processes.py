"""One text for a value that every process (or task) of a container has of its own: "first", or "first pid:value ...".

Process numbers are only looked up among the container's present processes, so a number that was given away
since then does no harm.
"""

from __future__ import annotations

from collections.abc import Mapping

from neap.enforcer.core.knob import whole


def gather(values: Mapping[int, str]) -> str:
    """The text for these processes; empty if there is none."""
    if not values:
        return ""
    first = values[min(values)].strip()
    others = (f"{pid}:{text.strip()}" for pid, text in sorted(values.items()) if text.strip() != first)
    return " ".join((first, *others))


def split_values(text: str) -> tuple[str, Mapping[int, str]]:
    """The common value and the exceptions.

    Raises:
        InputError: malformed.
    """
    first, *others = text.split() or [""]
    pairs = (other.partition(":") for other in others)
    return first, {whole(pid): value for pid, _, value in pairs}


def parse_values(text: str) -> tuple[int, Mapping[int, int]]:
    """The same where values are whole numbers.

    Raises:
        InputError: malformed.
    """
    first, others = split_values(text)
    return whole(first), {pid: whole(value) for pid, value in others.items()}


def scatter(text: str, pids: list[int]) -> dict[int, str]:
    """What to write for each process.

    Raises:
        InputError: malformed.
    """
    common, exceptions = split_values(text)
    return {pid: exceptions.get(pid, common) for pid in pids}
