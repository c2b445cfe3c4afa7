"""The window: the `neap` command. It reads everything and may touch nothing."""
