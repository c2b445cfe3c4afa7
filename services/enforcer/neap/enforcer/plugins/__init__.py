"""One knob per file: how a value is written, read back, compared and taken back."""
