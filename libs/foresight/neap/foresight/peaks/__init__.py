"""Ways of predicting the peak of a host's total: one file each, with the constant PLUGIN."""
