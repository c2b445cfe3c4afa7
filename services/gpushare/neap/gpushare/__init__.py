"""neap.gpushare."""
