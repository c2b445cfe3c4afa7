"""History -> profiles, forecasts, sizes, ratios, sides, replicas. No I/O."""
