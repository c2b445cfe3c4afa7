"""Usage, headroom and placements -> evictions. No I/O."""
