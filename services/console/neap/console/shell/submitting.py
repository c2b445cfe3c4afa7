"""`neap submit`: manifests become workloads on the bus, each with the first line of its trail."""

from __future__ import annotations

from pathlib import Path

import yaml

from neap.common.bus.port import Bus
from neap.common.contract.catalogue import DAY_REPORT, TRAIL, WORKLOAD
from neap.common.errors import InputError
from neap.common.model.lifecycle import Submitted
from neap.common.model.manifest import workloads_of
from neap.common.model.trail import ObjectRef, TrailEntry
from neap.common.model.workload import Workload
from neap.common.runtime.clock import AnchoredClock, Clock, stopwatch, wall_clock
from neap.common.telemetry.span import Tracer, current, object_context
from neap.common.telemetry.spanning import decision_span

SOURCE = "console"
LOCAL = "local"  # the cluster whose day a virtual cluster reports (setting virtual.cluster)


def read_workloads(file: Path, *, salt: str) -> tuple[list[Workload], list[str]]:
    """The workloads of a YAML or JSON file, and the kinds passed through.

    Raises:
        InputError: names file, place and what is wrong.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not text: {error}") from None
    try:
        documents = list(yaml.safe_load_all(text))
        return workloads_of(documents, where=str(file), salt=salt)
    except yaml.YAMLError as error:
        raise InputError(f"{file}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise InputError(f"{file}: nested too deeply") from None


async def cluster_clock(bus: Bus) -> Clock:
    """What time it is in the cluster: real time, but in a virtual cluster that of the day it lives through.

    Raises:
        PortError: the bus does not answer.
    """
    day = await bus.get(DAY_REPORT.at(cluster=LOCAL))
    if day is None:
        return wall_clock()
    now = day.message.at + day.message.behind  # at most one step of the model ago
    return AnchoredClock(epoch=now, anchor=stopwatch(), speed=1.0, stopwatch=stopwatch)


async def submit(workload: Workload, bus: Bus, clock: Clock, tracer: Tracer) -> None:
    """Submit one workload.

    Raises:
        PortError: the bus did not take it.
    """
    at = clock.now()
    about = ObjectRef(namespace=workload.namespace, name=workload.name, uid=workload.uid)
    home = object_context(about)
    entry = TrailEntry(
        at=at,
        source=SOURCE,
        id=f"{workload.uid}.{workload.attempt}.submitted",
        about=about,
        what="submitted",
        why=f"{workload.qos}, asks for {', '.join(f'{kind} {amount}' for kind, amount in sorted(workload.requests.items())) or 'nothing'}",
        trace=home.trace,
        parent=workload.owner,
    )
    token = current.set(home)
    try:
        stored = await bus.emit(TRAIL.at(namespace=workload.namespace, name=workload.name), entry, id=entry.id)
        if not stored.duplicate:
            tracer.record(decision_span(entry, SOURCE, root=True))
        message = Submitted(at=at, source=SOURCE, workload=workload)
        await bus.emit(WORKLOAD.at(namespace=workload.namespace, name=workload.name), message, id=f"{entry.id}.event")
    finally:
        current.reset(token)
