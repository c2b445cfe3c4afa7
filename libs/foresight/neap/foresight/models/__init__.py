"""Ways of forecasting, one file each: they compete on the past of every series, see `neap.foresight.forecasting`."""
