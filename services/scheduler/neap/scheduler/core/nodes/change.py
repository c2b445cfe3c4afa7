"""Changes of a node that may let a rejected pod pass: what the queue wakes pods by."""

from __future__ import annotations

from enum import StrEnum


class NodeChanged(StrEnum):
    """See module docstring."""

    FREE = "free"  # something was given back
    OFFER = "offer"  # it lends something else than before
    NODE_ADDED = "node-added"  # a node, its machine or its labels are new
    DEVICE = "device"  # cards were given back or are new
    LOAD = "load"  # it measured its use
    POD = "pod"  # pods that others look at came, left or are elsewhere
    READY = "ready"  # its ledger takes entries again
