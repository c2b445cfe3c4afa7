"""Tools that tests and the laptop stack share: virtual time, an embedded NATS server, a trace receiver."""
