"""What the reporter counts."""

from __future__ import annotations

from typing import Final

from neap.common.telemetry.metrics import counter

REPORTS: Final = "neap_reporter_reports_total"
SKIPPED: Final = "neap_reporter_reports_skipped_total"
UNKNOWN: Final = "neap_reporter_unknown_sources_total"
FAILED: Final = "neap_reporter_reads_failed_total"
SHORT: Final = "neap_reporter_reports_short_total"
QUIET: Final = "neap_reporter_reports_quiet_total"
READ_BYTES: Final = "neap_reporter_read_bytes_total"
TOO_LONG: Final = "neap_reporter_files_too_long_total"

METRICS: Final = (
    counter(REPORTS, "Usage reports published."),
    counter(SKIPPED, "Periods without a report, because the one before was still being read."),
    counter(UNKNOWN, "Files that were missing or unreadable when a report was made."),
    counter(FAILED, "Attempts to read the host that failed as a whole."),
    counter(SHORT, "Usage reports that list only the containers that moved; counted among the reports too."),
    counter(QUIET, "Reports not sent, because nothing moved."),
    counter(READ_BYTES, "Bytes of host files read; counted with every full report.", "collector"),
    counter(TOO_LONG, "Files longer than their collector's budget, and not read.", "collector"),
)
