"""A workload on its way: the machine, the queue, the ledgers, what is under way."""
