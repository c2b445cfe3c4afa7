"""The reports that were sent last, for who was not there to hear them: half a minute of a node with 100 containers."""

from __future__ import annotations

import math
from collections import deque
from itertools import accumulate
from typing import Final

import msgspec

from neap.common.model.usage import NodeUsage, Reports, ReportsRequest
from neap.common.units import KIB, MIB, Bytes

MOST: Final[Bytes] = 2 * MIB  # of JSON: 25 full reports with 100 containers each; most are short
PAGE: Final[Bytes] = 512 * KIB  # of one answer: half of what a NATS message may hold, and more than any report has


class Recent:
    """Kept as the bytes they were sent as, which take a tenth of what objects do."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, bytes]] = deque()  # (seq, report), oldest first
        self._size: Bytes = 0
        self._since: float = math.inf  # every report after this one is kept

    def add(self, report: NodeUsage) -> None:
        """One more was sent."""
        text = msgspec.json.encode(report)
        self._since = min(self._since, report.seq)
        self._kept.append((report.seq, text))
        self._size += len(text)
        while self._size > MOST:
            self._since, gone = self._kept.popleft()
            self._size -= len(gone)

    def answer(self, asked: ReportsRequest) -> Reports:
        """What was sent after the one asked for, as much as one answer can hold."""
        later = [text for seq, text in self._kept if seq > asked.after]
        sizes = accumulate(map(len, later))
        page = sum(size <= PAGE for size in sizes)
        reports = tuple(msgspec.json.decode(text, type=NodeUsage) for text in later[:page])
        return Reports(reports=reports, complete=asked.after >= self._since, more=page < len(later))
