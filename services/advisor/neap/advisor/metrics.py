"""What the advisor counts."""

from __future__ import annotations

from typing import Final

from neap.common.telemetry.metrics import counter

ADVICE: Final = "neap_advisor_advice_total"
REFUSED: Final = "neap_advisor_refused_input_total"
IGNORED: Final = "neap_advisor_reports_ignored_total"
STALE: Final = "neap_advisor_stale_rounds_total"

METRICS: Final = (
    counter(ADVICE, "Advice published, because it changed or had to be renewed.", "why"),
    counter(REFUSED, "Messages that could not be used; the last good one stays in force.", "channel"),
    counter(IGNORED, "Usage reports out of order, repeated, or from the future."),
    counter(STALE, "Rounds advised by requests, because no usage was known."),
)
