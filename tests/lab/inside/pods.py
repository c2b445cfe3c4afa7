"""A kubelet's tree of cgroups (systemd driver), and pods whose containers are real processes in it."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.lab.inside.kernel import CGROUPS, Cgroup
from tests.lab.inside.wait import until

PYTHON: Final = "/usr/bin/python3.11"
LOAD: Final = Path(__file__).resolve().parent / "load.py"
CONTROLLERS: Final = ("cpuset", "cpu", "io", "memory", "pids")
ROOT: Final = "kubepods.slice"
CLASSES: Final = {"guaranteed": "kubepods", "burstable": "kubepods-burstable", "besteffort": "kubepods-besteffort"}
ALL_CPUS: Final = range(os.cpu_count() or 1)


@dataclass
class Pod:
    """One pod: its cgroup, and its containers' processes."""

    uid: str
    cgroup: Cgroup
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def target(self) -> str:
        """Its name in advice."""
        return f"pod/{self.uid}"

    def container(self, name: str) -> Cgroup:
        """A container's cgroup."""
        return self.cgroup.below(f"cri-containerd-{name}.scope").make()

    def start(self, container: str, *words: str, ready: bool = True) -> subprocess.Popen[bytes]:
        """Run a load in a container; by default, come back once it is there."""
        inside = self.container(container).path / "cgroup.procs"

        def enter() -> None:
            os.sched_setaffinity(0, ALL_CPUS)
            inside.write_text("0")

        process = subprocess.Popen(
            [PYTHON, "-I", "-S", str(LOAD), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            preexec_fn=enter,  # noqa: PLW1509  one thread
        )
        self.processes.append(process)
        if ready:
            assert process.stdout is not None
            os.set_blocking(process.stdout.fileno(), False)
            until(lambda: _said(process), f"{' '.join(words)} of {self.uid} is ready", within=60)
        return process

    def end(self) -> None:
        """Kill it, and remove its cgroup, as the kubelet would."""
        self.cgroup.remove()
        for process in self.processes:
            process.wait(20)
            if process.stdout is not None:
                process.stdout.close()


def _said(process: subprocess.Popen[bytes]) -> bytes:
    assert process.poll() is None, f"the load ended with {process.returncode}"
    return (process.stdout.read() if process.stdout is not None else b"") or b""


class Dial:
    """Numbers that running loads look at."""

    def __init__(self, count: int) -> None:
        handle, self.path = tempfile.mkstemp(prefix="dial-")
        os.ftruncate(handle, 8 * count)
        self._memory = mmap.mmap(handle, 8 * count)
        os.close(handle)

    def turn(self, index: int, share: float) -> None:
        struct.pack_into("d", self._memory, 8 * index, share)


@dataclass
class Kubelet:
    """The tree; `root` is what neap is told of."""

    root: Cgroup
    pods: list[Pod] = field(default_factory=list)

    def class_cgroup(self, kind: str) -> Cgroup:
        return self.root if kind == "guaranteed" else self.root.below(f"{CLASSES[kind]}.slice")

    def pod(self, uid: str, kind: str, *, container: str = "") -> Pod:
        """A pod's cgroup of a class ("guaranteed", "burstable", "besteffort")."""
        name = f"{CLASSES[kind]}-pod{uid.replace('-', '_')}.slice"
        pod = Pod(uid, self.class_cgroup(kind).below(name).make(*CONTROLLERS))
        if container:
            pod.container(container)
        self.pods.append(pod)
        return pod


@contextmanager
def a_kubelet() -> Iterator[Kubelet]:
    """A node as the kubelet leaves it, without pods; afterwards nothing of it is left."""
    Cgroup(CGROUPS).make(*CONTROLLERS)
    kubelet = Kubelet(Cgroup(CGROUPS / ROOT).make(*CONTROLLERS))
    for kind in ("burstable", "besteffort"):
        kubelet.class_cgroup(kind).make(*CONTROLLERS)
    kubelet.class_cgroup("besteffort").write("cpu.weight", "1")
    try:
        yield kubelet
    finally:
        kubelet.root.remove()
        for pod in kubelet.pods:
            pod.end()
