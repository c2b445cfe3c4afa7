"""What was done before: commands of this attempt, evictions by family, and what was said of rules on a dry run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from neap.common.model.protection import family
from neap.common.model.workload import Workload
from neap.common.units import DAY, Seconds
from neap.evictor.core.budget import recent

MOST_FAMILIES: Final = 256  # with MOST_TIMES each they fit well into what may be remembered (runtime.remembering)
MOST_TIMES: Final = 64


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The commands for one run of a guest, and until when its release is awaited; 0: given up."""

    attempt: int
    number: int = 1
    until: Seconds = 0.0


class History:
    """See module docstring. `evicted` is by family, over a day; `would` by rule and uid."""

    def __init__(self, evicted: Mapping[str, tuple[Seconds, ...]], would: Mapping[str, Seconds]) -> None:
        self.evicted, self.would = dict(evicted), dict(would)

    def count(self, workload: Workload, at: Seconds) -> None:
        """A guest is asked to leave."""
        name = family(workload)
        times = (*recent(self.evicted.pop(name, ()), at, DAY), at)
        self.evicted[name] = times[-MOST_TIMES:]
        while len(self.evicted) > MOST_FAMILIES:
            del self.evicted[next(iter(self.evicted))]

    def is_news(self, key: str, at: Seconds, pause: Seconds) -> bool:
        """Whether it was not so within `pause`; what goes on and on is news once."""
        self.would = {known: since for known, since in self.would.items() if since > at - pause}
        is_known = key in self.would
        self.would[key] = at
        return not is_known
