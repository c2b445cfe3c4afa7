"""The reporter: what this machine is, what it uses and what it suffers. Reads the host, writes nothing."""
