"""What a pod asks for beside its QoS class, as far as NUMA nodes go: to be bound to some, to have them alone.

    katalyst.kubewharf.io/memory_enhancement: '{"numa_binding": "true", "numa_exclusive": "true"}'
    neap.io/numa-binding: "true"      neap.io/numa-exclusive: "true"      neap.io/numa-nodes: "2"

Both spellings are read; where both are there they must agree. Other keys of Katalyst's object are for others. Which
nodes it is, the ledger says. A pod that may be divided over several, evenly, says over how many (numa-nodes). What
cannot be read is refused by name, never taken for "no".
Source: kubewharf/katalyst-api pkg/consts/qos.go (names); katalyst-core pkg/util/qos (exclusive only with binding,
both only where a pod has CPUs of its own or a pool).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from neap.common.errors import InputError
from neap.common.model.qos import QosClass

MEMORY_KEY: Final = "katalyst.kubewharf.io/memory_enhancement"
FLAGS: Final[Mapping[str, str]] = {"numa_binding": "neap.io/numa-binding", "numa_exclusive": "neap.io/numa-exclusive"}
NODES_KEY: Final = "neap.io/numa-nodes"
MOST_NODES: Final = 16
_TRUTH: Final[Mapping[str, bool]] = {"true": True, "false": False}


class Enhancement(msgspec.Struct, frozen=True, kw_only=True):
    """See module docstring."""

    numa_binding: bool = False
    numa_exclusive: bool = False
    numa_nodes: int = 1  # at least so many NUMA nodes bear a part of it


NOTHING: Final = Enhancement()
_KEYS: Final = frozenset({MEMORY_KEY, NODES_KEY, *FLAGS.values()})


def enhancement(annotations: Mapping[str, str], qos: QosClass) -> Enhancement:
    """What a pod of this class asks for.

    Raises:
        InputError: not readable, asked twice and differently, or an illegal pair.
    """
    if _KEYS.isdisjoint(annotations):
        return NOTHING
    asked = _object(annotations)
    flags = {flag: _flag(annotations, asked, flag) for flag in FLAGS}
    wish = Enhancement(**flags, numa_nodes=_count(annotations))
    if wish.numa_exclusive and not wish.numa_binding:
        raise InputError("numa_exclusive without numa_binding: no NUMA node to have alone")
    if wish.numa_exclusive and qos is not QosClass.DEDICATED:
        raise InputError(f"numa_exclusive needs {QosClass.DEDICATED}, the pod is {qos}")
    if wish.numa_binding and qos is QosClass.SYSTEM:
        raise InputError(f"numa_binding is not for {qos}: its CPUs are the system's")
    return wish


def _count(annotations: Mapping[str, str]) -> int:
    text = annotations.get(NODES_KEY, "1")
    if not (text.isascii() and text.isdecimal() and len(text) <= 2 and 1 <= int(text) <= MOST_NODES):
        raise InputError(f"{NODES_KEY}={text[:64]!r} is no number from 1 to {MOST_NODES}")
    return int(text)


def _object(annotations: Mapping[str, str]) -> dict[str, Any]:
    text = annotations.get(MEMORY_KEY)
    if text is None:
        return {}
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeError):
        raise InputError(f"{MEMORY_KEY}={text[:64]!r} is no JSON object") from None


def _flag(annotations: Mapping[str, str], asked: Mapping[str, Any], flag: str) -> bool:
    words = {MEMORY_KEY: asked.get(flag), FLAGS[flag]: annotations.get(FLAGS[flag])}
    told = {key: word for key, word in words.items() if word is not None}
    for key, word in told.items():
        if not isinstance(word, str) or word not in _TRUTH:
            raise InputError(f"{flag} in {key} is {str(word)[:64]!r}, neither 'true' nor 'false'")
    if len(set(told.values())) > 1:
        raise InputError(f"{flag} asked twice and differently: {told}")
    return any(_TRUTH[word] for word in told.values())
