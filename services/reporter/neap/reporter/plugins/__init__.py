"""One file, one collector: which files it wants, how to parse them, which fields they yield."""
