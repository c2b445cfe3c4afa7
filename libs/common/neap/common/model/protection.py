"""Who may be asked to leave a node for somebody else's sake: the rights of guests, one rule for all who ask.

Only reclaimed_cores; never one that is labelled protected, never a member of a stateful set.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from neap.common.model.qos import QosClass
from neap.common.model.workload import Workload

PROTECTED_LABELS: Final = ("neap.io/protected", "neap.io/stateful")  # labels or annotations that protect
PROTECTED_OWNERS: Final = ("StatefulSet",)  # kinds of owner whose pods never leave


def may_leave(
    workload: Workload,
    protected_labels: Collection[str] = PROTECTED_LABELS,
    protected_owners: Collection[str] = PROTECTED_OWNERS,
) -> bool:
    """Whether this workload may be evicted at all. A label or annotation protects unless it says "false"."""
    if workload.qos is not QosClass.RECLAIMED:
        return False
    written = {**workload.annotations, **workload.labels}
    if any(written.get(name, "false").lower() != "false" for name in protected_labels):
        return False
    return workload.owner.partition("/")[0] not in protected_owners
