"""Traces, metrics and logs. Without an exporter endpoint no SDK is imported."""
