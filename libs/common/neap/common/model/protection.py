"""Who may be asked to leave a node for somebody else's sake: the rights of guests, one rule for all who ask.

Only reclaimed_cores; never one that is labelled protected, never a member of a stateful set; and of a family that says
how many of it must stay, never one too many (for its own rules an evictor judges that, see `minimum`).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from neap.common.model.qos import QosClass
from neap.common.model.workload import Workload

PROTECTED_LABELS: Final = ("neap.io/protected", "neap.io/stateful")  # labels or annotations that protect
PROTECTED_OWNERS: Final = ("StatefulSet",)  # kinds of owner whose pods never leave
MINIMUM: Final = "neap.io/min-available"  # label or annotation: so many pods of the family stay
ALL: Final = 1 << 30  # of the family stay


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


def family(workload: Workload) -> str:
    """Those that stand for each other: the members of a gang, the pods of one owner, or the pod alone."""
    if workload.gang is not None:
        return f"{workload.namespace}/gang/{workload.gang.name}"
    return f"{workload.namespace}/{workload.owner or workload.name}"


def minimum(workload: Workload) -> int:
    """How many pods of its family stay: as it says itself, else what its gang cannot do without; 0: none need to.

    What cannot be read keeps everybody.
    """
    text = workload.labels.get(MINIMUM, workload.annotations.get(MINIMUM))
    if text is not None:
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= len(str(ALL)) else ALL
    return workload.gang.least if workload.gang is not None else 0
