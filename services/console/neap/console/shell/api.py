"""`neap api`: ask the gateway how the Kubernetes API fares."""

from __future__ import annotations

from neap.common.contract.catalogue import API
from neap.common.model.api import ApiRequest, ApiState
from neap.console.shell.reading import open_bus


async def ask_api(url: str) -> ApiState:
    """What one gateway says.

    Raises:
        PortError: no bus, or no gateway answers.
    """
    async with open_bus(url) as bus:
        return await bus.request(API, ApiRequest())
