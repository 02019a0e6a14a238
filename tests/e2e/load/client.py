"""One HTTP/1.1 connection and a pool of them, on plain streams and h11.

Libraries that retry on a stale connection would hide what the tests look for. Here a request is written once.
A connection that the server closed while it was idle is noticed before a request is written to it, and
replaced, as any browser does; one that it closes on a request is a failure. The kernel is asked for that, not what
this process has got round to read: on a busy machine a goodbye may lie there for a while.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import ssl
from collections import deque
from dataclasses import dataclass, field

import h11

from .plan import Target
from .result import Reason, RequestError

READ_BYTES = 65536


@dataclass(frozen=True)
class Response:
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def identity(self) -> tuple[str, str]:
        """Release and colour, from the router's headers or else from the service's JSON; empty if unknown."""
        release = self.headers.get("x-flotilla-release", "")
        colour = self.headers.get("x-flotilla-colour", "")
        if not (release and colour) and self.headers.get("content-type", "").startswith("application/json"):
            with contextlib.suppress(ValueError):
                content = json.loads(self.body)
                if isinstance(content, dict):
                    release = release or str(content.get("release", ""))
                    colour = colour or str(content.get("colour", ""))
        return release, colour


class Connection:
    """One connection to the target."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.CLIENT)

    @property
    def closed_by_server(self) -> bool:
        """Whether the end of the stream has been read."""
        return self._reader.at_eof() or self._reader.exception() is not None or self._writer.is_closing()

    def has_word(self, milliseconds: int = 0) -> bool:
        """Whether something has arrived that was not read, or arrives within so many milliseconds."""
        waiting = select.poll()
        waiting.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(waiting.poll(milliseconds))

    async def listen(self) -> None:
        """Read what has arrived while the connection was idle, such as its end."""
        if self.has_word():
            # The first turn of the loop finds that there is something, the second one has read it.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    @property
    def announced(self) -> bool:
        """Whether either side said `Connection: close`."""
        return self._http.our_state is not h11.IDLE

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent. False once either side said `Connection: close`."""
        return not self.announced and not self._writer.is_closing()

    async def request(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Response:
        """Send one request and read its whole answer. Raises RequestError."""
        request = h11.Request(method=method, target=path, headers=headers)
        data = (self._http.send(request) or b"") + (self._http.send(h11.Data(data=body)) or b"" if body else b"")
        data += self._http.send(h11.EndOfMessage()) or b""
        begun = False
        response: h11.Response | None = None
        parts: list[bytes] = []
        try:
            self._writer.write(data)
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    received = await self._reader.read(READ_BYTES)
                    begun = begun or bool(received)
                    if not received and not (response is not None and self._until_close(response)):
                        raise RequestError(*_hung_up(begun, "end of stream"))
                    self._http.receive_data(received)
                elif isinstance(event, h11.Response):
                    response = event
                elif isinstance(event, h11.Data):
                    parts.append(bytes(event.data))
                elif isinstance(event, h11.EndOfMessage):
                    break
                elif not isinstance(event, h11.InformationalResponse):
                    raise RequestError(Reason.PROTOCOL, f"unexpected {event!r}")
        except (OSError, ssl.SSLError) as error:
            raise RequestError(*_hung_up(begun, f"{type(error).__name__}: {error}")) from error
        except h11.RemoteProtocolError as error:
            raise RequestError(Reason.PROTOCOL, str(error)) from error
        if response is None:
            raise RequestError(Reason.PROTOCOL, "an answer without a head")
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        names = {name.decode("ascii"): value.decode("latin-1") for name, value in response.headers}
        return Response(response.status_code, names, b"".join(parts))

    def close(self) -> None:
        self._writer.close()

    def abort(self) -> None:
        """Drop the connection without a goodbye, for one that is stuck."""
        self._writer.transport.abort()

    @staticmethod
    def _until_close(response: h11.Response) -> bool:
        """Whether the end of the stream is the end of the body."""
        names = {name for name, _ in response.headers}
        return b"content-length" not in names and b"transfer-encoding" not in names


def _hung_up(begun: bool, detail: str) -> tuple[Reason, str]:
    return (Reason.TRUNCATED if begun else Reason.CLOSED), detail


@dataclass
class Pool:
    """Connections to one target. Idle ones are used in turn, the longest idle first."""

    target: Target
    address: str
    context: ssl.SSLContext | None
    size: int
    opened: int = 0
    idle_closed: int = 0
    _idle: deque[Connection] = field(default_factory=deque)
    _alive: int = 0

    async def open(self) -> Connection:
        """A new connection. Raises RequestError."""
        try:
            reader, writer = await asyncio.open_connection(
                self.address,
                self.target.port,
                ssl=self.context,
                server_hostname=self.target.name if self.context else None,
            )
        except (ssl.SSLError, ssl.CertificateError) as error:
            raise RequestError(Reason.TLS, str(error)) from error
        except OSError as error:
            # A reset during the TLS handshake too: it is as good as refused.
            raise RequestError(Reason.CONNECT, f"{type(error).__name__}: {error}") from error
        self.opened += 1
        return Connection(reader, writer)

    async def acquire(self) -> Connection:
        """An idle connection, or a new one while there are fewer than `size` or none is idle."""
        while self._idle and self._alive >= self.size:
            connection = self._idle.popleft()
            if not connection.closed_by_server:
                await connection.listen()
            if not connection.closed_by_server:
                return connection
            self.idle_closed += 1
            self.discard(connection)
        self._alive += 1
        try:
            return await self.open()
        except BaseException:
            self._alive -= 1
            raise

    def release(self, connection: Connection) -> None:
        """Give a connection back after a whole answer."""
        if connection.reusable:
            self._idle.append(connection)
            return
        self.idle_closed += not connection.announced
        self.discard(connection)

    def discard(self, connection: Connection) -> None:
        connection.close()
        self._alive -= 1

    def abort(self, connection: Connection) -> None:
        connection.abort()
        self._alive -= 1

    def close(self) -> None:
        while self._idle:
            self.discard(self._idle.popleft())
