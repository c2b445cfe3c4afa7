"""Advice and what the host shows now -> an ordered plan of writes. No I/O."""
