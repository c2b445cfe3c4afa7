"""What pods are told: once when they are first advised, and guests when the pool they live in shrinks a lot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from neap.advisor.core.pod import RECLAIMED, Pod
from neap.common.model.advice import NodeAdvice
from neap.common.model.lifecycle import Measured
from neap.common.model.trail import TrailEntry
from neap.common.telemetry.span import object_context
from neap.common.units import Seconds


@dataclass(frozen=True)
class Told:
    """When a pod was last told something, and the most CPUs its pool had since."""

    at: Seconds
    cpus: int


@dataclass(frozen=True)
class Scene:
    """What the lines are about: an advice, the size of every pool in it, and the sum behind the offer."""

    advice: NodeAdvice
    sizes: Mapping[str, int]  # CPUs by uid
    sum: str
    notes: Mapping[str, str] = field(default_factory=dict)  # by uid: what a pod asked for and did not get


def tell(
    scene: Scene, pods: Sequence[Pod], told: dict[str, Told], *, loss: float, pause: Seconds
) -> Iterator[TrailEntry]:
    """The lines of one advice; `told` is brought up to date. At most one line per guest and `pause`."""
    advice = scene.advice
    pools = {pool.name: pool for pool in advice.pools}
    knobs = {cgroup.target: cgroup for cgroup in advice.cgroups}
    for pod in pods:
        cpus, last = scene.sizes[pod.uid], told.get(pod.uid)
        cgroup = knobs[f"pod/{pod.uid}"]
        where = f"pool {cgroup.pool} {cgroup.knobs.cpus or 'without CPUs'}"
        if last is None:
            because = scene.sum if cgroup.pool == RECLAIMED else pools[cgroup.pool].reason
            told[pod.uid] = Told(advice.at, cpus)
            note = f"; {scene.notes[pod.uid]}" if pod.uid in scene.notes else ""
            yield _line(
                advice,
                pod,
                "advised",
                f"{where}; {because}{note}",
                Measured(metric="pool_cpus", value=cpus, threshold=0),
            )
        elif cgroup.pool == RECLAIMED and cpus <= last.cpus * (1 - loss) and advice.at - last.at >= pause:
            told[pod.uid] = Told(advice.at, cpus)
            why = f"{where}: {cpus} CPUs instead of {last.cpus}; {scene.sum}"
            yield _line(advice, pod, "squeezed", why, Measured(metric="pool_cpus", value=cpus, threshold=last.cpus))
        elif cpus > last.cpus:
            told[pod.uid] = Told(last.at, cpus)


def _line(advice: NodeAdvice, pod: Pod, what: str, why: str, number: Measured) -> TrailEntry:
    work = pod.workload
    run = f"{work.uid}.{work.attempt}"
    return TrailEntry(
        at=advice.at,
        source="advisor",
        id=f"{run}.advised" if what == "advised" else f"{run}.{what}.{advice.seq}",
        about=pod.about,
        what=what,
        why=why,
        numbers=(number,),
        node=advice.node,
        trace=object_context(pod.about).trace,
        cause=f"{run}.placed" if what == "advised" else "",
        parent=work.owner,
    )
