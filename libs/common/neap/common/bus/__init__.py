"""The bus port and its adapters: NATS, and in memory with the same promises.

    port.Bus                              what services see
    nats.connect(url, name=...)           the adapter for NATS
    memory.MemoryBroker().bus(name)       the adapter in memory; memory.Fault says what goes wrong
    patience.Patience                     how long calls of both try

Both are held to tests/contract/test_bus.py. Everything else here is theirs alone.
"""
