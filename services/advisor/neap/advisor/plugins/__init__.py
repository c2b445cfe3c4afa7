"""One file = one policy: `provision_*` sizes what owners need, `headroom_*` says what is left to lend."""
