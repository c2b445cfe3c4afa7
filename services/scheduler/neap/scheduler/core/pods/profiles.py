"""The services' profiles as far as they were heard, and pods made with them.

A profile that changes what a waiting pod will use makes another pod of it (another shape, another lane): at the next
look at what changed it lines up again, and is tried at once. What is placed already stays charged as it was decided.
Bounded: beyond `limit` the profile that was told longest ago is forgotten; its pods run as if it had none.
Source: requirements 004-02, 004-31 (one version names the profile in every decision made with it).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

from neap.common.model.profile import MachineType, ProfiledKind, ServiceProfile, profile_key
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

    def learn(self, profile: ServiceProfile) -> None:
        """A profile came or changed."""
        self._table.learn(profile)
        before = self._told.pop(profile.key, None)
        self._told[profile.key] = profile
        if before is None or before != profile:
            self._changed.add(profile.key)
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
        profile = self._told.get(profile_key(workload)) if self._told else None
        demands = demands_of(profile, pod, self._kinds, self._machines) if profile is not None else ()
        if profile is None or not demands:
            return pod
        return profiled(pod, demands, profile=f"{profile.key} version {profile.version}")

    def renew(self, queue: Queue) -> int:
        """Make waiting pods anew whose profile changed; returns how many. Cost: O(waiting pods), once per change seen."""
        changed, self._changed = self._changed, set()
        renewed = 0
        for pod in queue.waiting() if changed else ():
            if profile_key(pod.workload) in changed:
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
