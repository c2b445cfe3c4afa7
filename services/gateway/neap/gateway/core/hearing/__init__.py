"""Following the API: lists, watches, and never losing the thread."""
