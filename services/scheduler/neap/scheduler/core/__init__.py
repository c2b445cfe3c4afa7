"""Decisions of the scheduler: the table of nodes, the cycle, the queue, the ledgers, the machine."""
