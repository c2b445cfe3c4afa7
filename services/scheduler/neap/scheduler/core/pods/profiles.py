"""The services' profiles as far as they were heard, and pods made with them.

A profile that changes what a waiting pod will use makes another pod of it (another shape, another lane): at the next
look at what changed it lines up again, and is tried at once. What is placed already stays charged as it was decided.
A service that was never measured has the demand of its class, where the planner tells one, and its decisions say so.
Bounded: beyond `limit` the profile that was told longest ago is forgotten; its pods run as if it had none.
Source: requirements 004-02, 004-31 (one version names the profile in every decision made with it).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from neap.common.model.profile import MachineType, MachineTypes, ProfiledKind, ServiceProfile, class_key, profile_key
from neap.common.model.workload import Workload
from neap.common.units import Seconds
from neap.scheduler.core.flow.queue import Queue
from neap.scheduler.core.nodes.table import NodeTable
from neap.scheduler.core.pods.demand import ProfiledPod, demands_of, profiled
from neap.scheduler.core.pods.estimate import Guess
from neap.scheduler.core.pods.pod import Pod, pod_of


class Profiles:
    """See module docstring."""

    def __init__(
        self,
        table: NodeTable,
        guess: Guess,
        kinds: Mapping[str, ProfiledKind],
        machines: Mapping[str, MachineType],
        *,
        limit: int,
    ) -> None:
        self._table, self._guess, self._kinds, self._machines, self._limit = table, guess, kinds, machines, limit
        self._told: OrderedDict[str, ServiceProfile] = OrderedDict()
        self._changed: set[str] = set()

    def __len__(self) -> int:
        return len(self._told)

    def learn(self, told: ServiceProfile | MachineTypes) -> None:
        """A profile, or the planner's table of machine types, came or changed."""
        if isinstance(told, MachineTypes):
            self._compare(told)
            return
        self._table.learn(told)
        before = self._told.pop(told.key, None)
        self._told[told.key] = told
        if before is None or before != told:
            self._changed.add(told.key)
        while len(self._told) > self._limit:
            self.forget(next(iter(self._told)))

    def forget(self, key: str) -> None:
        """A profile is gone; nothing if there was none."""
        profile = self._told.pop(key, None)
        if profile is not None:
            self._table.learn(ServiceProfile(at=profile.at, source=profile.source, key=key, version=""))
            self._changed.add(key)

    def pod(self, workload: Workload, submitted_at: Seconds = 0.0) -> Pod:
        """A pod of an admitted workload, with what is known of its service.

        Raises:
            InputError: see `pod_of`.
        """
        pod = pod_of(workload, submitted_at, self._guess, self._table.expected(workload))
        if not self._told:
            return pod
        own = self._told.get(profile_key(workload))
        demands = demands_of(own, pod, self._kinds, self._machines) if own is not None else ()
        if own is not None and (demands or pod.estimate.portrait is not None):
            return profiled(pod, demands, profile=f"{own.key} version {own.version}")
        others = self._told.get(class_key(workload.qos))
        demands = demands_of(others, pod, self._kinds, self._machines) if others is not None else ()
        if others is None or not demands:
            return pod
        return profiled(pod, demands, profile=f"none, that of its class {others.key} version {others.version}")

    def _compare(self, told: MachineTypes) -> None:
        """It takes the place of the table from the settings."""
        machines = {one.name: one for one in told.types}
        if machines != self._machines:
            self._machines = machines
            self._changed.update(self._told)

    def renew(self, queue: Queue) -> int:
        """Make waiting pods anew whose profile changed; returns how many. Cost: O(waiting pods), once per change seen."""
        changed, self._changed = self._changed, set()
        renewed = 0
        for pod in queue.waiting() if changed else ():
            if profile_key(pod.workload) in changed or class_key(pod.workload.qos) in changed:
                now = self.pod(pod.workload, pod.submitted_at)
                if now.shape != pod.shape or _version(now) != _version(pod):
                    queue.renew(now)
                    renewed += 1
        return renewed


def key_of(namespace: str, kind: str, name: str) -> str:
    """The key of the service whose profile stands under these names."""
    return f"{namespace}/{kind}/{name}"


def _version(pod: Pod) -> str:
    return pod.profile if isinstance(pod, ProfiledPod) else ""
