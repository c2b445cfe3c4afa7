"""What is expected of services, nodes, pools and the cluster: asked for by other desks, judged, published."""

from neap.planner.core.forecasting.desk import Forecasts
from neap.planner.core.forecasting.gathering import SeriesName
from neap.planner.core.forecasting.settings import Forecasting

__all__ = ["Forecasting", "Forecasts", "SeriesName"]
