"""The bus port and its adapters: NATS, and in memory with the same promises."""
