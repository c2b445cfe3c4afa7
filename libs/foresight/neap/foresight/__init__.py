"""What usage says about tomorrow: forecasts, peaks, sizes, tides, replicas. Pure; knows no room."""
