"""Pods of a generated day that misbehave: shares of them burst, leak, press on their neighbours, or save checkpoints. Pure.

Who does is drawn by a hash of seed and owner (a service, a job), so that replicas are alike, and a share more never
changes who was drawn for a smaller one. Without any share the day stays as it is, to the last byte.

    bursting   share of services: BURST times more in one minute of BURST_EVERY (see behaviour.py)
    leaking    share of services and jobs: what is left of their memory request is lost in LEAKED
    pressing   share of jobs: on all CPUs of a machine they slow owners' requests by PRESS
    saving     share of jobs: an eviction loses at most SAVED of their work
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from neap.common.model.resource import GPU_CORE, MEMORY, RECLAIMED_MEMORY
from neap.common.units import HOUR, MINUTE, Ratio, Seconds
from neap.virtual.behaviour import PREFIX
from neap.virtual.parts import Submission
from neap.virtual.settings import DaySettings

BURST: Final[Ratio] = 1.5
LEAKED: Final[Seconds] = 6 * HOUR
PRESS: Final[Ratio] = 0.5
SAVED: Final[Seconds] = 10 * MINUTE


def mixed(submissions: Sequence[Submission], settings: DaySettings, seed: int) -> list[Submission]:
    """The day with its misbehaving pods."""
    if not any((settings.bursting, settings.leaking, settings.pressing, settings.saving)):
        return list(submissions)
    return [_mixed(submission, settings, seed) for submission in submissions]


def _mixed(submission: Submission, settings: DaySettings, seed: int) -> Submission:
    workload = submission.workload
    told, requests = workload.annotations, workload.requests
    numbers: dict[str, float] = {}

    def drawn(what: str, share: Ratio) -> bool:
        text = f"{seed}.{what}.{workload.namespace}.{workload.owner}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") < share * 2**32

    is_service, is_job = told.get(f"{PREFIX}demand") == "curve", submission.is_guest and GPU_CORE not in requests
    if is_service and drawn("bursting", settings.bursting):
        numbers["burst"] = BURST
    if (is_service or is_job) and drawn("leaking", settings.leaking):
        asked = requests.get(MEMORY, 0) or requests.get(RECLAIMED_MEMORY, 0)
        numbers["leak"] = max(0.0, asked - float(told[f"{PREFIX}memory"])) / LEAKED
    if is_job and drawn("pressing", settings.pressing):
        numbers["press"] = PRESS
    if is_job and drawn("saving", settings.saving):
        numbers["checkpoint"] = float(told[f"{PREFIX}width"]) * SAVED
    return Submission(submission.at, replace(workload, annotations=_with(told, numbers))) if numbers else submission


def _with(told: Mapping[str, str], numbers: Mapping[str, float]) -> dict[str, str]:
    return {**told, **{PREFIX + key: f"{value:.12g}" for key, value in numbers.items()}}
