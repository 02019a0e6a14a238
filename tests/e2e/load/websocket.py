"""A websocket that sends a message now and then and wants the same one back."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING, Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus

from .plan import Stream
from .result import Answer, Reason, RequestError

if TYPE_CHECKING:
    from .runner import Run

MESSAGES_PER_SECOND = 2.0
PAUSE_SECONDS = 0.2
# Normal closure, and "going away": what a server that stops in order says (RFC 6455, 7.4.1).
GOODBYES = frozenset({1000, 1001})
SWITCHING_PROTOCOLS = 101


class _Connect(connect):
    """Follows no redirect: that would be a second request."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


async def talk(run: Run, stream: Stream) -> None:
    """Keep one websocket open until the run is over. Each handshake and each message counts as a request."""
    while (number := run.next_number()) is not None:
        scheduled = time.perf_counter()
        try:
            connection = await _open(run, stream)
        except RequestError as error:
            run.fail(stream, error)
            await run.pause(PAUSE_SECONDS)
            continue
        headers = connection.response.headers if connection.response else {}
        release, colour = headers.get("X-Flotilla-Release", ""), headers.get("X-Flotilla-Colour", "")
        run.succeed(stream, scheduled, Answer(SWITCHING_PROTOCOLS, release, colour))
        run.result.connections += 1
        try:
            await _converse(run, stream, connection, f"{run.run_id}-{number}")
        except RequestError as error:
            run.fail(stream, error, release=release)
            await run.pause(PAUSE_SECONDS)
        finally:
            await connection.close()


async def _open(run: Run, stream: Stream) -> ClientConnection:
    target = run.plan.target
    options: dict[str, Any] = {"host": run.address, "port": target.port, "proxy": None}
    if run.context is not None:
        options |= {"ssl": run.context, "server_hostname": target.name}
    uri = f"{'wss' if target.tls else 'ws'}://{target.host_header}{stream.path}"
    try:
        return await _Connect(uri, open_timeout=run.plan.timeout, close_timeout=2, ping_interval=None, **options)
    except ssl.SSLError as error:
        raise RequestError(Reason.TLS, str(error)) from error
    except TimeoutError as error:
        raise RequestError(Reason.TIMEOUT, f"no handshake within {run.plan.timeout:g} s") from error
    except InvalidStatus as error:
        detail = (error.response.body or b"")[:200].decode("utf-8", "replace")
        raise RequestError(Reason.STATUS, detail, error.response.status_code) from error
    except InvalidMessage as error:
        hung_up = isinstance(error.__cause__, EOFError)
        raise RequestError(Reason.CLOSED if hung_up else Reason.PROTOCOL, str(error)) from error
    except InvalidHandshake as error:
        raise RequestError(Reason.PROTOCOL, str(error)) from error
    except OSError as error:
        raise RequestError(Reason.CONNECT, f"{type(error).__name__}: {error}") from error


async def _converse(run: Run, stream: Stream, connection: ClientConnection, name: str) -> None:
    """Send and compare until the run is over or the server says goodbye. Raises RequestError."""
    turn = 0
    while True:
        # Between two messages nothing may arrive, but the server may close.
        stopped = asyncio.create_task(run.pause(1 / MESSAGES_PER_SECOND))
        closed = asyncio.create_task(connection.wait_closed())
        await asyncio.wait({stopped, closed}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        closed.cancel()
        if connection.close_code is None and run.next_number() is None:
            return
        turn += 1
        scheduled = time.perf_counter()
        message = f"{name}-{turn}"
        try:
            async with asyncio.timeout(run.plan.timeout):
                await connection.send(message)
                echo = await connection.recv()
        except TimeoutError as error:
            raise RequestError(Reason.TIMEOUT, f"no echo within {run.plan.timeout:g} s") from error
        except ConnectionClosed as error:
            code = error.rcvd.code if error.rcvd else None
            if code in GOODBYES:
                run.result.goodbyes += 1
                return
            raise RequestError(Reason.CLOSED, f"closed with {code or 'no code'}") from error
        if echo != message:
            raise RequestError(Reason.CONTENT, f"sent {message!r}, got {echo!r}")
        run.succeed(stream, scheduled, Answer(SWITCHING_PROTOCOLS, "", ""))
