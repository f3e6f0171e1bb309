"""`serve`: models behind HTTP, until Ctrl-C or SIGTERM; what is in flight then is answered."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import uvicorn

from generalad.errors import UsageError
from generalad.runtime.hosts import is_loopback
from generalad.runtime.interrupt import on_interrupt
from generalad.runtime.line.line import Line as LineFile
from generalad.runtime.line.line_file import read_line
from generalad.serve.exchange import Exchange
from generalad.serve.follow import Follower
from generalad.serve.models import Models
from generalad.serve.open_line import holds, log_line, open_line
from generalad.serve.protocol import bounded
from generalad.serve.service import Service
from generalad.serve.settings import Settings, token_of
from generalad.serve.source import FleetSource
from generalad.serve.tls import tls_context

_END_WITHIN = 10
"""Seconds for what is in flight when the service ends."""

StrPath = str | os.PathLike[str]


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM; what was in flight has been answered."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted")
        self.signal_number = signal_number


def serve(
    artifacts: StrPath | Sequence[StrPath] = (),
    *,
    config: StrPath | None = None,
    state: StrPath | None = None,
    follow: str | None = None,
    shadow: float = 600.0,
    host: str = "127.0.0.1",
    port: int = 8080,
    token: str | None = None,
    tls_cert: StrPath | None = None,
    tls_key: StrPath | None = None,
    settings: Settings | None = None,
    stop: threading.Event | None = None,
    on_start: Callable[[str], None] | None = None,
) -> None:
    """Serve models over HTTP, as `gad serve` does, until it is stopped.

    Args:
        artifacts: files, or folders of versions, of which the one that served last begins, or else
            the last by name. Each is a model with the name of the file or folder.
        config: a line's file; its streams run beside the models, and the page shows them. They use
            the artifact of the file, or else the first one.
        state: folder of the review and the audit trail; None for the one of the line's file.
        follow: a folder or URL that says which versions are wanted, see `source` and `follow`.
        shadow: seconds that a wanted version is compared before and after it serves.
        host: address to listen at. One that others reach needs a token.
        port: 0 takes a free one.
        token: "${NAME}", an environment variable, or "${file:PATH}".
        tls_cert: PEM file of the certificate, for HTTPS.
        tls_key: PEM file of its key.
        settings: bounds and speed.
        stop: when set, the service ends as after Ctrl-C.
        on_start: told the address when requests are answered.

    Raises:
        GadError: an artifact that cannot be served, an address that is taken, a wrong setting.
        Stopped: after Ctrl-C or SIGTERM.
    """
    settings = settings or Settings()
    secret = token_of(token, host=host)
    tls = tls_context(_path(tls_cert), _path(tls_key), log=log_line)
    if tls is None and not is_loopback(host):
        log_line(f"at {host} the token and all images pass in the clear → --tls-cert and --tls-key")
    given = [artifacts] if isinstance(artifacts, (str, os.PathLike)) else list(artifacts)
    read = None if config is None else _reader(Path(config), state)
    places = _places([Path(one) for one in given], read)
    with contextlib.ExitStack() as stack:
        bound = stack.enter_context(contextlib.closing(_bind(host, port)))
        models = Models(places, settings)
        stack.callback(models.close)
        line = None if read is None else stack.enter_context(open_line(read, models, state))
        exchange = Exchange(line)
        if follow is not None:
            stack.callback(_follow(follow, models, exchange, shadow).close)
        service = Service(models, settings, token=secret, line=line, exchange=exchange)
        stack.callback(service.close)
        _run(service, settings, bound, tls, stop or threading.Event(), on_start)


def _path(given: StrPath | None) -> Path | None:
    return None if given is None else Path(given)


def _follow(address: str, models: Models, exchange: Exchange, seconds: float) -> Follower:
    if not seconds >= 0:
        raise UsageError(f"shadow: expected seconds, 0 or more, found {seconds}")
    folder = Path(address)
    return Follower(
        FleetSource(address),
        list(models),
        exchange,
        seconds=seconds,
        reports=folder / "reports" if folder.is_dir() else None,
        log=log_line,
    )


def _reader(config: Path, state: StrPath | None) -> Callable[[], LineFile]:
    return lambda: read_line(config, state=None if state is None else Path(state))


def _places(given: list[Path], read: Callable[[], LineFile] | None) -> list[Path]:
    """The artifacts that were named, and that of the line's file unless it is among them."""
    named = None if read is None else read().artifact
    if named is not None and not any(holds(place, Path(named)) for place in given):
        given = [*given, Path(named)]
    if not given:
        raise UsageError("no artifact given", remedy="name one, or a --config that names one")
    return given


def _run(
    service: Service,
    settings: Settings,
    bound: socket.socket,
    tls: ssl.SSLContext | None,
    stop: threading.Event,
    on_start: Callable[[str], None] | None,
) -> None:
    signals: list[int] = []

    def interrupt(number: int) -> None:
        signals.append(number)
        stop.set()

    url = url_of(bound, "http" if tls is None else "https")
    secured = {"ssl": tls, "ssl_handshake_timeout": settings.client_timeout} if tls else {}
    server = _Server(_config(service, settings), stop, secured, lambda: on_start and on_start(url))
    with on_interrupt(interrupt):
        server.run(sockets=[bound])
    if signals:
        raise Stopped(signals[0])


def url_of(bound: socket.socket, scheme: str) -> str:
    """The address of a socket that is bound."""
    host, port = bound.getsockname()[:2]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def _config(service: Service, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        service.app,
        http=bounded(settings.client_timeout, settings.max_connections),
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        log_level="critical",  # what is wrong with a request is its answer
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=_END_WITHIN,
    )


class _Server(uvicorn.Server):
    """Ends when an event is set; signals are the project's own."""

    def __init__(
        self,
        config: uvicorn.Config,
        stop: threading.Event,
        tls: dict[str, Any],
        started: Callable[[], Any],
    ) -> None:
        super().__init__(config)
        self._stop, self._tls, self._told = stop, tls, started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to answer; as uvicorn's, which leaves a client a minute for a TLS handshake."""
        await self.lifespan.startup()
        made: Any = self.config.http_protocol_class
        config, state = self.config, self.lifespan.state
        self.servers = [
            await asyncio.get_running_loop().create_server(
                lambda: made(config=config, server_state=self.server_state, app_state=state),
                sock=bound,
                backlog=config.backlog,
                **self._tls,
            )
            for bound in sockets or ()
        ]
        self.started = True
        self._told()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second."""
        return self._stop.is_set() or await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """`on_interrupt` has them."""
        yield


def _bind(host: str, port: int) -> socket.socket:
    """Bind, so that an address that is taken is known before networks are loaded."""
    if not 0 <= port <= 65535:
        raise UsageError(f"port: expected 0 to 65535, found {port}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # With its protocol named: only then asyncio sends small answers at once (TCP_NODELAY), else
        # the second part of each waits 40 ms for the client's acknowledgement.
        bound = socket.socket(family, kind, protocol)
        try:
            if os.name != "nt":
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except OSError:
            bound.close()
            raise
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise UsageError(
            f"cannot serve at {host}:{port}: {error.strerror}",
            remedy="choose another port with --port" if taken else "check the address",
        ) from error
    bound.set_inheritable(False)
    return bound
