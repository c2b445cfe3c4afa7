"""What the reporter counts."""

from __future__ import annotations

from typing import Final

from neap.common.telemetry.metrics import counter

REPORTS: Final = "neap_reporter_reports_total"
SKIPPED: Final = "neap_reporter_reports_skipped_total"
UNKNOWN: Final = "neap_reporter_unknown_sources_total"
FAILED: Final = "neap_reporter_reads_failed_total"

METRICS: Final = (
    counter(REPORTS, "Usage reports published."),
    counter(SKIPPED, "Periods without a report, because the one before was still being read."),
    counter(UNKNOWN, "Files that were missing or unreadable when a report was made."),
    counter(FAILED, "Attempts to read the host that failed as a whole."),
)
