"""Who the kernel should kill first, as a pod wishes it, kept inside the range of its QoS class.

    katalyst.kubewharf.io/memory_enhancement: '{"oom_priority": "-50"}'        or        neap.io/oom-priority: "-50"

    priority = NEVER if the wish is NEVER, else min(max(wish, least), end − 1)      [a whole number; lower goes first]

No wish, or one that is no number: the least of the class. The wish decides among pods of one class, never across.
Source: katalyst-core pkg/util/qos/oom_priority.go (ranges, 300), acceptance case A25.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from neap.common.model.enhancement import MEMORY_KEY
from neap.common.model.qos import QosClass
from neap.common.model.workload import Workload

OOM_KEY: Final = "neap.io/oom-priority"
NEVER: Final = 300
RANGES: Final[Mapping[QosClass, tuple[int, int]]] = {
    QosClass.RECLAIMED: (-100, 0),
    QosClass.SHARED: (0, 100),
    QosClass.DEDICATED: (100, 200),
    QosClass.SYSTEM: (200, 300),
}


def wish_of(annotations: Mapping[str, str], ours: str, theirs: str, key: str) -> str | None:
    """A wish written under our own annotation, or under a key of one of Katalyst's JSON annotations; None: nothing."""
    if ours in annotations:
        return annotations[ours]
    text = annotations.get(theirs)
    if text is None:
        return None
    try:
        found = msgspec.json.decode(text, type=dict[str, Any]).get(key)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return None
    return None if found is None else str(found)


def oom_priority(workload: Workload) -> int:
    """Of a pod; see module docstring."""
    least, end = RANGES[workload.qos]
    text = wish_of(workload.annotations, OOM_KEY, MEMORY_KEY, "oom_priority")
    try:
        wish = int(text) if text is not None and len(text) <= len("-1000000") else least
    except ValueError:
        return least
    return NEVER if wish == NEVER else min(max(wish, least), end - 1)
