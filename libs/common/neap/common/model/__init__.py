"""The nouns of neap as frozen Structs; the same ones travel on the wire."""
