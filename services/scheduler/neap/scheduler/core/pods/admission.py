"""Which workloads can never run: refused at once, with the reason, instead of waiting for ever.

The rules of GPU asks are in common.model.gpu. Amounts finer than a unit do not get this far (model.resource). What
replicas have in common is judged once for all of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Final

from neap.common.contract.catalogue import WORKLOAD
from neap.common.contract.channel import escape
from neap.common.contract.lawful import common_flaw, name_flaw
from neap.common.errors import InputError, WireError
from neap.common.model.bounds import wish_flaw
from neap.common.model.enhancement import enhancement
from neap.common.model.gpu import device_flaw, gpu_asks
from neap.common.model.qos import QosClass
from neap.common.model.resource import CPU, LARGEST, MEMORY, RECLAIMED_CPU, RECLAIMED_MEMORY
from neap.common.model.workload import Workload
from neap.scheduler.core.pods.alike import REMEMBERED, common, one_of

OWN: Final = (CPU, MEMORY)
LENT: Final = (RECLAIMED_CPU, RECLAIMED_MEMORY)
PLAIN: Final = re.compile(r"[!-~]{1,128}")  # printable, no blanks: it travels in headers and keys
MOST_CONTAINERS: Final = 64
MOST_KINDS: Final = 64  # per container
MOST_SELECTED: Final = 64  # labels, card models
MOST_MEMBERS: Final = 10_000  # of a gang
PRIORITY: Final = 1 << 31


def refusal(workload: Workload, subject: str = "") -> str:
    """Why this workload is invalid; empty if it is not. `subject` is where its submission was heard."""
    return next(_wrong_names(workload, subject), "") or _common_flaw(workload) or name_flaw(workload)


def _common_flaw(workload: Workload) -> str:
    """What is wrong with all that are like it."""
    alike = common(workload)
    return next(_wrong(workload), "") if alike is None else _flaw_of(alike)


@lru_cache(maxsize=REMEMBERED)
def _flaw_of(alike: bytes) -> str:
    return next(_wrong(one_of(alike)), "")


def _wrong(workload: Workload) -> Iterator[str]:
    if not 1 <= workload.attempt < PRIORITY:
        yield f"attempt {workload.attempt} is out of bounds"
    if abs(workload.priority) >= PRIORITY:
        yield f"priority {workload.priority} is out of bounds"
    if not 1 <= len(workload.containers) <= MOST_CONTAINERS:
        yield f"{len(workload.containers)} containers (allowed: 1..{MOST_CONTAINERS})"
    if max(len(workload.node_selector), len(workload.gpu_models)) > MOST_SELECTED:
        yield f"more than {MOST_SELECTED} selected labels or card models"
    for container in workload.containers:
        where = f"container {container.name[:64]!r}"
        yield from _wrong_amounts(container.requests, f"{where} requests")
        yield from _wrong_amounts(container.limits, f"{where} limits")
        for kind, limit in sorted(container.limits.items()):
            if limit < container.requests.get(kind, 0):
                yield f"{where}: limit of {kind} {limit} is below the request {container.requests[kind]}"
    yield from _wrong_amounts(workload.init_requests, "init containers")
    yield from _wrong_class(workload)
    yield from _wrong_gang(workload)
    if flaw := wish_flaw(workload):
        yield flaw
    try:
        gpu_asks(workload)
        if flaw := device_flaw(workload):
            yield flaw
        enhancement(workload.annotations, workload.qos)
    except InputError as error:
        yield str(error)
    if flaw := common_flaw(workload):  # a ledger would not take it
        yield flaw


def _wrong_names(workload: Workload, subject: str) -> Iterator[str]:
    for what, name in (("namespace", workload.namespace), ("name", workload.name)):
        try:
            escape(name)
        except InputError as error:
            yield f"{what} {error}"
    if not PLAIN.fullmatch(workload.uid):
        yield f"uid {workload.uid[:64]!r} must be 1..128 printable characters without blanks"
    try:
        heard = WORKLOAD.tokens_of(subject) if subject else {}
    except WireError as error:
        heard = {}
        yield str(error)
    if heard and (heard["namespace"], heard["name"]) != (workload.namespace, workload.name):
        yield f"{workload.key} was submitted under the name of {heard['namespace']}/{heard['name']}"
    seen = set[str]()
    for container in workload.containers:
        if container.name in seen or not PLAIN.fullmatch(container.name):
            wrong = "not unique" if container.name in seen else "missing or not printable"
            yield f"container name {container.name[:64]!r} is {wrong}"
        seen.add(container.name)


def _wrong_amounts(amounts: Mapping[str, int], where: str) -> Iterator[str]:
    if len(amounts) > MOST_KINDS:
        yield f"{where}: more than {MOST_KINDS} resource kinds"
    for kind, amount in sorted(amounts.items()):
        if not PLAIN.fullmatch(kind):
            yield f"{where}: {kind[:64]!r} is no name of a resource kind"
        if amount < 0:
            yield f"{where}: {kind} {amount} is negative"


def _wrong_gang(workload: Workload) -> Iterator[str]:
    gang = workload.gang
    if gang is None:
        return
    if not PLAIN.fullmatch(gang.name):
        yield f"gang {gang.name[:64]!r} must be 1..128 printable characters without blanks"
    if not 1 <= gang.least <= MOST_MEMBERS:
        yield f"gang {gang.name[:64]}: least {gang.least} is out of bounds (1..{MOST_MEMBERS})"


def _wrong_class(workload: Workload) -> Iterator[str]:
    requests = workload.requests
    for kind, amount in sorted(requests.items()):
        if amount > LARGEST:
            yield f"requests of {kind}, {amount}, are beyond {LARGEST}"
    own = [kind for kind in OWN if requests.get(kind)]
    lent = [kind for kind in LENT if requests.get(kind)]
    if own and lent:
        yield f"asks for {', '.join(own)} and for {', '.join(lent)}; a workload owns or borrows, not both"
    if lent and workload.qos is not QosClass.RECLAIMED:
        yield f"{workload.qos} may not ask for {', '.join(lent)}; only {QosClass.RECLAIMED} borrows"
    if own and workload.qos is QosClass.RECLAIMED:
        yield f"{QosClass.RECLAIMED} may not ask for {', '.join(own)}, but for {', '.join(LENT)}"
    if workload.qos is QosClass.DEDICATED and not requests.get(CPU):
        yield f"{QosClass.DEDICATED} asks for no {CPU}"
