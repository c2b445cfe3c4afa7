"""How much is asked of the API, of which server, and who may ask: buckets, breakers, shares, the lease."""
