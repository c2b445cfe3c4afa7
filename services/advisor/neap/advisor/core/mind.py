"""What goes from round to round, and from one life of an advisor to the next."""

from __future__ import annotations

from dataclasses import dataclass, field

from neap.advisor.core.hearing import Heard
from neap.advisor.core.lending import Lending
from neap.advisor.core.memory import MemoryPlan
from neap.advisor.core.neighbours import Neighbourhood
from neap.advisor.core.plan import Recall
from neap.advisor.core.pod import Track
from neap.advisor.core.story import Told


@dataclass(slots=True)
class Mind:
    """All that was learnt and decided so far."""

    tracks: dict[str, Track] = field(default_factory=dict)  # recent usage, by uid
    heard: Heard | None = None  # the last report
    recall: Recall = field(default_factory=Recall)  # who has which CPUs, and what pools needed
    memory: MemoryPlan = field(default_factory=MemoryPlan)
    neighbours: Neighbourhood = field(default_factory=Neighbourhood)
    lending: Lending | None = None  # the last one computed
    told: dict[str, Told] = field(default_factory=dict)  # what pods were told last, by uid
