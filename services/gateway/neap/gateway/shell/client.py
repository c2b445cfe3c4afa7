"""kubernetes_asyncio without its 700 generated models: who we are, whom we trust, and the session to ask with.

Any import of the package runs its __init__, which imports every model and API there is: 100 MB and seconds, of which
neap uses nothing (bodies are narrow Structs). So its two __init__ modules are not run until somebody asks them for what
only they have: the packages are put in place with their search path, and configuration and transport are imported from
them as they are. Whoever needs the models afterwards simply imports them.

If a later version keeps its parts elsewhere, importing this module fails and names the version;
tests/unit/test_gateway_client.py holds it against the locked one.
"""

from __future__ import annotations

import asyncio
import math
import sys
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any, Final

from yaml import YAMLError

from neap.common.errors import SettingsError, Unavailable
from neap.common.runtime.clock import stopwatch
from neap.common.units import Seconds

PACKAGE: Final = "kubernetes_asyncio"
RENEW: Final[Seconds] = 60.0  # how often a credential plugin is asked whether its token still holds
DOUBTED: Final[Seconds] = 1.0  # at the earliest after the last time


class _Unread(ModuleType):
    """A package whose __init__ runs once somebody asks for a name that it does not have yet."""

    def __getattr__(self, name: str) -> Any:
        spec = self.__dict__["__spec__"]
        if name.startswith("__") or spec is None or spec.loader is None:
            raise AttributeError(f"{self.__name__} has no {name}")
        self.__class__ = ModuleType  # type: ignore[assignment]  # from here on it is a package like any other
        spec.loader.exec_module(self)
        return getattr(self, name)


class ApiClient:
    """In place of the client's own, which brings the models; only what we do not call would need it."""


def _unread(spec: ModuleSpec | None) -> ModuleType:
    if spec is None:
        raise ImportError(f"{PACKAGE} is not installed")
    plain = module_from_spec(spec)
    module = _Unread(plain.__name__, None)
    module.__dict__.update(plain.__dict__)
    sys.modules[spec.name] = module
    return module


def _load() -> tuple[Any, Any, Any]:
    """The modules client.configuration, client.rest and config."""
    client: ModuleType | None = None
    if PACKAGE not in sys.modules:
        package, client = _unread(find_spec(PACKAGE)), _unread(find_spec(f"{PACKAGE}.client"))
        package.__dict__["client"] = client
        client.__dict__["ApiClient"] = ApiClient
    try:
        configuration = import_module(f"{PACKAGE}.client.configuration")
        if client is not None:
            client.__dict__["Configuration"] = configuration.Configuration
        rest, config = import_module(f"{PACKAGE}.client.rest"), import_module(f"{PACKAGE}.config")
        _ = rest.RESTClientObject, config.load_kube_config, config.load_incluster_config, config.ConfigException
    except (ImportError, AttributeError) as error:
        raise ImportError(f"{PACKAGE} {version(PACKAGE)} is not laid out as expected: {error}") from error
    if client is not None:
        client.__dict__.pop("ApiClient", None)  # whoever asks from now on gets the real one
    return configuration, rest, config


_configuration, _rest, _config = _load()
UNUSABLE: Final = (  # what a file, a credential plugin or a mounted secret that does not hold ends in
    _config.ConfigException, YAMLError, OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
)  # fmt: skip


class Credentials:
    """Where the API server is, and what proves who we are; tokens are renewed when they are asked for."""

    def __init__(self, configuration: Any, loader: Any, host: str, server_name: str) -> None:
        self._configuration, self._loader = configuration, loader
        self._renewed = stopwatch()
        self._turn = asyncio.Lock()
        self.host = (host or str(configuration.host)).rstrip("/")
        self.server_name: str | None = server_name or configuration.tls_server_name
        self.proxy: str | None = configuration.proxy

    def session(self) -> Any:
        """An aiohttp session that trusts and proves what the configuration says."""
        return _rest.RESTClientObject(self._configuration).pool_manager

    async def header(self) -> str:
        """The Authorization header; empty if a certificate says it all.

        Raises:
            Unavailable: there is no token at the moment.
        """
        try:
            if self._loader is not None and stopwatch() - self._renewed > RENEW:
                async with self._turn:
                    await self._renew()
            return str(await self._configuration.get_api_key_with_prefix("BearerToken") or "")
        except UNUSABLE as error:
            raise Unavailable(f"no token for {self.host}: {error}") from error

    def doubt(self) -> None:
        """The server did not know us: the next request asks for a new token, though not more than once a second."""
        if stopwatch() - self._renewed > DOUBTED:
            self._renewed = -math.inf

    async def _renew(self) -> None:
        if stopwatch() - self._renewed > RENEW:  # nobody else was faster
            self._renewed = stopwatch()
            await self._loader.load_and_set(self._configuration)


async def credentials(*, kubeconfig: str = "", context: str = "", host: str = "", server_name: str = "") -> Credentials:
    """From a kubeconfig file; without one, those of the pod we are in, or else of the user.

    Args:
        kubeconfig: the file.
        context: another context of the file than its current one.
        host: another URL of the same API server.
        server_name: the name to expect in its certificate.

    Raises:
        SettingsError: nothing usable was found; says why.
    """
    configuration, loader = _configuration.Configuration(), None
    try:
        if not kubeconfig:
            try:
                _config.load_incluster_config(configuration)
            except _config.ConfigException:
                kubeconfig = _config.KUBE_CONFIG_DEFAULT_LOCATION
        if kubeconfig:
            loader = await _config.load_kube_config(
                kubeconfig, context=context or None, client_configuration=configuration, persist_config=False
            )
    except UNUSABLE as error:
        raise SettingsError(f"no way to a Kubernetes API server ({kubeconfig or 'in this pod'}): {error}") from error
    configuration.connection_pool_maxsize = 0  # no limit: how much is asked at once is decided elsewhere
    return Credentials(configuration, loader, host, server_name)
