"""What lies where already: images and datasets, as columns of those that pods ask for.

    images    bytes of it on each node; it counts as far as it is spread over the cluster (plugins/image_locality.py)
    datasets  whether a node caches it

Columns are at most MOST_COLUMNS, the one asked longest ago goes first. An image too small or on too few nodes to score
anywhere is as good as none. Nodes without a topology have nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Final

import numpy as np

from neap.common.model.node import NodeObject
from neap.common.model.placement import Placement
from neap.common.model.topology import NodeTopology
from neap.common.units import MIB
from neap.scheduler.core.nodes.columns import Columns
from neap.scheduler.core.nodes.keeper import Keeper
from neap.scheduler.core.nodes.view import Numbers, View
from neap.scheduler.core.pods.pod import Pod

LOCALITY: Final = "locality"  # the fact by which plugins find it
MOST_COLUMNS: Final = 256
STEPS: Final = (
    1000  # an image's share of the nodes is counted in steps of at least 1/1000, so that one pull changes little
)
SMALLEST: Final = 23 * MIB  # below this an image is as good as loaded


def tagged(image: str) -> str:
    """The name nodes know an image by: without a tag it is the latest."""
    return image if image.rfind(":") > image.rfind("/") else f"{image}:latest"


class Holders:
    """Who has one image or dataset, and how large it is there."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}  # by row
        self.nodes: dict[int, int] = {}  # by size

    def put(self, row: int, size: int | None) -> None:
        """A row has it in this size, or no more."""
        old = self.sizes.pop(row, None)
        if old is not None:
            self.nodes[old] -= 1
            if not self.nodes[old]:
                del self.nodes[old]
        if size is not None:
            self.sizes[row] = size
            self.nodes[size] = self.nodes.get(size, 0) + 1


class Locality(Keeper):
    """See module docstring."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        columns.facts[LOCALITY] = self
        self._here: set[int] = set()
        self._said: dict[int, dict[str, int]] = {}  # by row: size by name
        self._holders: dict[str, Holders] = {}
        self._asked: dict[str, None] = {}

    def describe(self, row: int, topology: NodeTopology, held: Iterable[Placement]) -> Iterable[int]:
        """What it was said to have counts from now on."""
        del topology, held
        if row not in self._here:
            self._here.add(row)
            self._put(row, {}, self._said.get(row, {}))
        return ()

    def register(self, row: int, node: NodeObject) -> Iterable[int]:
        """What it has now."""
        said = {f"image/{tagged(name)}": size for name, size in node.images.items() if size >= 0}
        said |= {f"dataset/{name}": 1 for name in node.datasets}
        old, self._said[row] = self._said.get(row, {}), said
        if row in self._here:
            self._put(row, old, said)
        return ()

    def forget(self, row: int) -> Iterable[int]:
        """It has nothing that counts."""
        if row in self._here:
            self._here.discard(row)
            self._put(row, self._said.get(row, {}), {})
        return ()

    def ask(self, pod: Pod) -> Hashable:
        """The images that score somewhere with their share of the nodes, and the datasets that are cached somewhere."""
        if not self._holders or not (pod.workload.images or pod.workload.datasets):
            return None
        images, datasets = self.images(pod), self.datasets(pod)
        for name in (*(name for name, _, _ in images), *datasets):
            self._column(name)
        return (
            (images, len(pod.workload.images), datasets, len(set(pod.workload.datasets)))
            if images or datasets
            else None
        )

    def images(self, pod: Pod) -> tuple[tuple[str, int, float], ...]:
        """Column, times it is asked, share of the nodes that have it; none if together they score nowhere."""
        asked: dict[str, int] = {}
        for image in pod.workload.images:
            name = f"image/{tagged(image)}"
            if name in self._holders:
                asked[name] = asked.get(name, 0) + 1
        found = [(name, times, self._share(name)) for name, times in sorted(asked.items())]
        most = sum(times * int(max(self._holders[name].nodes) * share) for name, times, share in found)
        return tuple(found) if most > SMALLEST else ()

    def datasets(self, pod: Pod) -> tuple[str, ...]:
        """Columns of the datasets somebody caches."""
        names = sorted(f"dataset/{name}" for name in set(pod.workload.datasets))
        return tuple(name for name in names if name in self._holders)

    def column(self, view: View, name: str) -> Numbers:
        """Sizes by row; 0 for what nobody asked about."""
        return view.column(name) if name in self._asked else np.zeros(view.size)

    def _share(self, name: str) -> float:
        step, count = max(1, len(self._here) // STEPS), len(self._holders[name].sizes)
        return count // step * step / len(self._here)

    def _put(self, row: int, old: Mapping[str, int], new: Mapping[str, int]) -> None:
        for name in (*old, *(name for name in new if name not in old)):
            size = new.get(name)
            if size == old.get(name):
                continue
            holders = self._holders.setdefault(name, Holders())
            holders.put(row, size)
            if not holders.sizes:
                del self._holders[name]
            if name in self._asked:
                self._columns[name][row] = size or 0

    def _column(self, name: str) -> None:
        if name in self._asked:
            del self._asked[name]
        else:
            self._columns.add(name, np.float64)
            for row, size in self._holders[name].sizes.items():
                self._columns[name][row] = size
        self._asked[name] = None
        while len(self._asked) > MOST_COLUMNS:
            oldest = next(iter(self._asked))
            del self._asked[oldest]
            self._columns.drop(oldest)
