"""Speed, as numbers and ratios measured in one run: `make bench`."""
