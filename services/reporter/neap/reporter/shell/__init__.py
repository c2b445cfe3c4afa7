"""The only I/O of the reporter: reading the host port."""
