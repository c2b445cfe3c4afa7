"""gpushare: who has what of which GPU card, by 1 % of compute and 1 MiB of memory per container."""
