"""Ways of sizing a request by what was used: one file each, with the constant PLUGIN."""
