"""A day written by hand: owners, guests and GPU pods, line by line. Format: examples/README.md.

TOML unless the name ends in .json. Every error names the file and the field, e.g. `day.toml: owner[2].cpu`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from neap.common.errors import InputError
from neap.common.model.qos import QosClass
from neap.common.model.resource import (
    CPU,
    GPU_CORE,
    GPU_MEMORY,
    MEMORY,
    RECLAIMED_CPU,
    RECLAIMED_MEMORY,
    Resources,
    parse_amount,
)
from neap.common.model.workload import Container, Workload
from neap.common.units import HOUR, Ratio, Seconds, format_duration, parse_duration
from neap.virtual.behaviour import Curves, write
from neap.virtual.owners import NOISE, OBJECTIVE, OWNER_PRIORITY
from neap.virtual.parts import LEFT_OUT, Day, Submission, identity

T = TypeVar("T")
Amount = str | int
Copies = Annotated[int, Meta(ge=1, le=10_000)]
LARGEST_FILE = 1 << 20


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern="^[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?$")]
    cpu: Amount
    memory: Amount
    at: str = "0s"
    leak: Amount = "0"  # bytes of memory an hour, until it is killed


class OwnerLine(_Line, frozen=True, kw_only=True):
    """An online service: `peak` is its highest CPU use over its request."""

    namespace: str = "default"
    replicas: Annotated[int, Meta(ge=1, le=1000)] = 1
    qos: QosClass = QosClass.SHARED
    curve: str = "ali2018/1"
    peak: Annotated[Ratio, Meta(ge=0, le=10)] = 0.65
    shift: str = "0s"
    mean: str = "10ms"
    objective: str = ""
    burst: Annotated[Ratio, Meta(ge=0, le=100)] = 0.0  # in a burst it needs so much more
    burst_every: str = "20m"
    burst_length: str = "1m"


class GuestLine(_Line, frozen=True, kw_only=True):
    """Work for reclaimed cores: `duration` on all the cores it asks for."""

    duration: str
    namespace: str = "batch"
    copies: Copies = 1
    every: str = "0s"
    checkpoint: str = "0s"  # of work on all its cores, after which what was done is saved; 0: never
    press: Annotated[Ratio, Meta(ge=0, le=100)] = 0.0  # a noisy neighbour, see pod.VirtualContainer


class GpuLine(GuestLine, frozen=True, kw_only=True):
    """A pod with a share of a card: `core` in percent, `gpu_memory` in MiB (0 for a whole card)."""

    core: Annotated[int, Meta(ge=1, le=100)]
    gpu_memory: Annotated[int, Meta(ge=0, le=1 << 24)] = 0


class DayFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    name: str = "a day from a file"
    length: str = "24h"
    owner: tuple[OwnerLine, ...] = ()
    guest: tuple[GuestLine, ...] = ()
    gpu: tuple[GpuLine, ...] = ()


def read_day(path: Path, *, start: Seconds, curves: Curves, seed: int) -> Day:
    """Read a day.

    Raises:
        InputError: names the file and the field.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: larger than {LARGEST_FILE} bytes")
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        return parse_day(content, str(path), start=start, curves=curves, seed=seed)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: {error}") from None


def parse_day(content: Any, where: str, *, start: Seconds, curves: Curves, seed: int) -> Day:
    """The day a decoded file describes.

    Raises:
        InputError: names `where` and the field.
    """
    try:
        told = msgspec.convert(content, DayFile)
    except msgspec.ValidationError as error:
        raise InputError(f"{where}: {error}") from None
    length = _Field(where, "length").duration(told.length)
    submissions = [
        *(s for i, line in enumerate(told.owner) for s in _owners(line, _Field(where, f"owner[{i}]"), curves, seed)),
        *(s for i, line in enumerate(told.guest) for s in _guests(line, _Field(where, f"guest[{i}]"), seed)),
        *(s for i, line in enumerate(told.gpu) for s in _gpu_pods(line, _Field(where, f"gpu[{i}]"), seed)),
    ]
    seen: set[str] = set()
    for submission in submissions:
        key = submission.workload.key
        if key in seen:
            raise InputError(f"{where}: two workloads are named {key}")
        seen.add(key)
    submissions.sort(key=lambda s: (s.at, s.workload.uid))
    lent = sum(s.is_guest for s in submissions)
    story = (
        f"{format_duration(length)} from {where}: {told.name}; {len(submissions)} pods, {lent} of them guests",
        "real: the owners' load curves; everything else as written in the file, latencies modelled",
        *LEFT_OUT,
    )
    return Day(told.name, start, length, tuple(s for s in submissions if s.at < length), story)


@dataclass(frozen=True)
class _Field:
    """Where in the file something stands, for errors."""

    where: str
    line: str

    def read(self, field: str, parse: Callable[[str], T], text: Amount) -> T:
        try:
            return parse(str(text))
        except InputError as error:
            raise self.wrong(field, str(error)) from None

    def wrong(self, field: str, why: str) -> InputError:
        return InputError(f"{self.where}: {self.line}{field}: {why}")

    def duration(self, text: str, field: str = "") -> Seconds:
        return self.read(field, parse_duration, text)

    def amount(self, field: str, kind: str, text: Amount) -> int:
        return self.read(field, lambda t: parse_amount(kind, t)[1], text)


@dataclass(frozen=True)
class _Pod:
    """What all pods of one line have in common."""

    line: OwnerLine | GuestLine
    owner: str
    qos: QosClass
    size: Resources
    limits: Resources
    behaviour: dict[str, str]

    def submission(self, index: int, at: Seconds, seed: int) -> Submission:
        """The pod of this number."""
        namespace, name = self.line.namespace, f"{self.line.name}-{index}"
        workload = Workload(
            uid=identity(seed, namespace, name),
            namespace=namespace,
            name=name,
            qos=self.qos,
            containers=(Container(name="main", requests=self.size, limits=self.limits),),
            priority=0 if self.qos == QosClass.RECLAIMED else OWNER_PRIORITY,
            owner=self.owner,
            labels={"app": self.line.name},
            annotations=self.behaviour,
        )
        return Submission(at, workload)


def _owners(line: OwnerLine, field: _Field, curves: Curves, seed: int) -> Iterator[Submission]:
    cpu = field.amount(".cpu", CPU, line.cpu)
    memory = field.amount(".memory", MEMORY, line.memory)
    if line.qos == QosClass.RECLAIMED:
        raise field.wrong(".qos", "reclaimed_cores are guests: write it under guest")
    if line.curve not in curves:
        raise field.wrong(".curve", f"no such curve: {line.curve!r} (known: {', '.join(sorted(curves))})")
    mean = field.duration(line.mean, ".mean")
    behaviour = write(
        "curve",
        memory=memory * 7 // 10,
        curve=line.curve,
        peak=cpu / 1000 * line.peak,
        shift=field.duration(line.shift, ".shift"),
        noise=NOISE,
        mean=mean,
        objective=field.duration(line.objective, ".objective") if line.objective else round(mean * OBJECTIVE, 4),
        **_leak(line, field),
        **_bursts(line, field),
    )
    size = {CPU: cpu, MEMORY: memory}
    limits = size if line.qos == QosClass.DEDICATED else {MEMORY: memory}
    pod = _Pod(line, f"Deployment/{line.name}", line.qos, size, limits, behaviour)
    at = field.duration(line.at, ".at")
    return (pod.submission(index, at, seed) for index in range(line.replicas))


def _leak(line: _Line, field: _Field) -> dict[str, float]:
    """Only what differs from a pod that does not leak: the same day is the same bytes."""
    leak = field.amount(".leak", MEMORY, line.leak)
    return {"leak": leak / HOUR} if leak else {}


def _bursts(line: OwnerLine, field: _Field) -> dict[str, float]:
    if not line.burst:
        return {}
    every, length = field.duration(line.burst_every, ".burst_every"), field.duration(line.burst_length, ".burst_length")
    if not 1 <= length <= every:
        raise field.wrong(".burst_length", "must be within 1 s and burst_every")
    return {"burst": line.burst, "burst-every": every, "burst-length": length}


def _guests(line: GuestLine, field: _Field, seed: int) -> Iterator[Submission]:
    kinds = (RECLAIMED_CPU, RECLAIMED_MEMORY)
    return _copies(line, field, QosClass.RECLAIMED, kinds, more={}, seed=seed)


def _gpu_pods(line: GpuLine, field: _Field, seed: int) -> Iterator[Submission]:
    share = {GPU_CORE: line.core} | ({GPU_MEMORY: line.gpu_memory} if line.gpu_memory else {})
    return _copies(line, field, QosClass.SHARED, (CPU, MEMORY), more=share, seed=seed)


def _copies(
    line: GuestLine, field: _Field, qos: QosClass, kinds: tuple[str, str], *, more: Resources, seed: int
) -> Iterator[Submission]:
    cpu, memory = field.amount(".cpu", kinds[0], line.cpu), field.amount(".memory", kinds[1], line.memory)
    at, every = field.duration(line.at, ".at"), field.duration(line.every, ".every")
    duration = field.duration(line.duration, ".duration")
    if not (cpu and duration):
        raise field.wrong(".cpu" if duration else ".duration", "must be more than nothing: the pod would have no work")
    more_told = {"press": line.press} if line.press else {}
    if every_saved := field.duration(line.checkpoint, ".checkpoint"):
        more_told["checkpoint"] = cpu / 1000 * every_saved
    work = {"width": cpu / 1000, "work": cpu / 1000 * duration}
    behaviour = write("work", memory=memory * 8 // 10, **work, **_leak(line, field), **more_told)
    pod = _Pod(line, f"Job/{line.name}", qos, {kinds[0]: cpu, kinds[1]: memory} | more, {}, behaviour)
    return (pod.submission(index, at + index * every, seed) for index in range(line.copies))
