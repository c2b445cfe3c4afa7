"""The only writer of the host: advice becomes true on the kernel, and every write has an inverse."""
