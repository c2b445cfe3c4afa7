"""The host file system as a port: this machine, a directory, or a virtual node."""
