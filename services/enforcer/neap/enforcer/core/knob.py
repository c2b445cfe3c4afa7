"""What a knob is: one kernel setting of a cgroup, text out and text in.

A plugin file makes one `Knob`: which field of the advice it obeys, how the value is written, how the kernel's
answer is read, when the two agree, and the text that takes the change back. The planner knows no knob by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import eq
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from neap.common.errors import InputError
from neap.common.model.advice import Knobs

LIFTED: Final = "max"


class Reach(StrEnum):
    """What one value of a knob is written to."""

    CGROUP = "cgroup"  # one file of the cgroup
    NESTED = "nested"  # one file of the cgroup, whose set must stay within the parent's
    PROCESSES = "processes"  # one file per process of a container
    TASKS = "tasks"  # the resctrl group of each task of a container
    GROUP = "group"  # a resctrl group: whether it exists, or a file of it
    LEVEL = "level"  # an act that brings the cgroup to a level (core/offload.py): nothing is kept, nothing given back


class Site(NamedTuple):
    """One knob at one cgroup; `cgroup` is a host path, `file` the kernel's file name."""

    cgroup: str
    file: str


def as_read(text: str) -> str:
    """The inverse of a plain knob: what was read; a write of nothing would be no write, so empty is a newline."""
    return text or "\n"


def first_read(kept: str | None, read: str, wanted: str) -> str:
    """The original of a plain knob: what was read before the first write."""
    del wanted
    return read if kept is None else kept


def in_one(text: str) -> Sequence[str]:
    """A plain knob takes its whole text in one write."""
    return (text,)


def no_matter(wanted: str, read: str) -> int:
    """A plain knob may be written before or after others."""
    del wanted, read
    return 0


@dataclass(frozen=True)
class Knob:
    """See module docstring. `format` and `parse` raise InputError for what they do not take."""

    file: str
    value: Callable[[Knobs], Any]  # None: not advised
    format: Callable[[Any], str]
    parse: Callable[[str], Any]
    agree: Callable[[Any, Any], bool] = eq  # (wanted, read) as parsed
    inverse: Callable[[str], str] = as_read
    reach: Reach = Reach.CGROUP
    muted_by: str = ""  # file of the knob that, while "1", makes the kernel refuse this one and forget its value
    turn: Callable[[str, str], int] = no_matter  # (wanted, read) -> writes of a lower turn go first
    pieces: Callable[[str], Sequence[str]] = in_one  # what one write may carry
    keep: Callable[[str | None, str, str], str] = first_read  # (kept, read, wanted) -> the original from now on
    yields: bool = True  # a text written by another hand is the new original: it is what the node would run now
    beside: tuple[str, ...] = ()  # files of the same cgroup the decision needs
    enabled_by: tuple[str, str] = ("", "")  # file of the root cgroup, and a word in it without which there is no effect

    @property
    def of_tasks(self) -> bool:
        """Whether it belongs to a container's processes and not to its cgroup."""
        return self.reach in (Reach.PROCESSES, Reach.TASKS)

    def same(self, wanted: str, read: str) -> bool:
        """Whether the kernel, showing `read`, has taken `wanted`."""
        if wanted.strip() == read.strip():
            return True
        try:
            return self.agree(self.parse(wanted), self.parse(read))
        except InputError:
            return False


def by_file(plugins: Mapping[str, Knob]) -> Mapping[str, Knob]:
    """The knobs by the kernel's file name."""
    return MappingProxyType({knob.file: knob for knob in sorted(plugins.values(), key=lambda knob: knob.file)})


def whole(text: str) -> int:
    """A whole number as the kernel prints it.

    Raises:
        InputError: it is none.
    """
    try:
        return int(text)
    except ValueError:
        raise InputError(f"not a whole number: {text[:40]!r}") from None


def between(low: int, high: int, unit: str) -> Callable[[int], str]:
    """A formatter that takes whole numbers from `low` to `high`."""

    def written(value: int) -> str:
        if not low <= value <= high:
            raise InputError(f"{value} {unit} is outside {low}..{high}")
        return str(int(value))

    return written
