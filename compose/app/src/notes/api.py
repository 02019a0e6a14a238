"""The HTTP service: `python3 -m notes.api`.

Every path is served twice, with and without the prefix `/api`, so that a route may strip the prefix or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from types import FrameType
from typing import Any, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket, WebSocketDisconnect

from notes import rehearse, settings
from notes.store import DATABASE_ERRORS, QUEUE_ERRORS, Check, Note, Store

PORT = 3000
# Longer than the 60 s that an Nginx upstream keeps an idle connection: the proxy hangs up first, never the
# service while a request is on its way.
KEEP_ALIVE_SECONDS = 75
SLOW_SECONDS = 30.0
# After TERM: first the websockets say goodbye, then requests in flight end. Both fit in the Compose file's
# stop_grace_period.
WEBSOCKET_SECONDS = 3.0
REQUEST_SECONDS = int(SLOW_SECONDS) + 1
BODY_BYTES = 64 * 1024
GOING_AWAY = 1001
UNSUPPORTED = 1003

_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

log = logging.getLogger("notes.api")


class Notes(Protocol):
    """What the service needs of the store."""

    async def open(self) -> None: ...
    async def close(self) -> None: ...
    async def add(self, note_id: str, text: str) -> tuple[Note, bool]: ...
    async def find(self, note_id: str) -> Note | None: ...
    async def counts(self) -> dict[str, int]: ...
    async def enqueue(self, note_id: str) -> None: ...
    async def queue_length(self) -> int: ...
    async def visit(self) -> int: ...
    async def visits(self) -> int: ...
    async def check(self) -> dict[str, Check]: ...


class RequestError(Exception):
    """The request cannot be served as it is; the message says why."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


def read_note(key: str | None, body: bytes) -> tuple[str, str]:
    """Identifier and text of a note from the Idempotency-Key header and the body. Raises RequestError."""
    try:
        note = json.loads(body)
    except ValueError as error:
        raise RequestError("the body is not JSON") from error
    text = note.get("text") if isinstance(note, dict) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise RequestError('the body needs a "text"')
    note_id = key or note.get("id")
    if not isinstance(note_id, str) or not _ID.fullmatch(note_id):
        raise RequestError('an Idempotency-Key header or an "id" is needed: 1 to 128 of A-Z a-z 0-9 . _ : -')
    if note.get("id", note_id) != note_id:
        raise RequestError('Idempotency-Key and "id" differ')
    return note_id, text


async def limited_body(request: Request) -> bytes:
    """The body, refused as soon as it is too long."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES:
            raise RequestError(f"the body is longer than {BODY_BYTES} bytes", status=413)
    return body


class Service:
    """The endpoints of one process."""

    def __init__(self, identity: settings.Identity, store: Notes) -> None:
        self._identity = identity
        self._store = store
        self._stopping = asyncio.Event()
        self._websockets: set[asyncio.Task[Any]] = set()

    async def stop_websockets(self) -> None:
        """Let each websocket finish the message in hand and close it with 1001."""
        self._stopping.set()
        if self._websockets:
            await asyncio.wait(set(self._websockets), timeout=WEBSOCKET_SECONDS)

    def routes(self) -> list[BaseRoute]:
        return [
            Route("/live", self.live),
            Route("/ready", self.ready),
            Route("/version", self.version),
            Route("/status", self.status),
            Route("/visits", self.visit, methods=["POST"]),
            Route("/notes", self.add, methods=["POST"]),
            Route("/notes/count", self.count),
            Route("/notes/{note_id}", self.find),
            Route("/slow", self.slow),
            WebSocketRoute("/ws", self.echo),
        ]

    async def live(self, request: Request) -> JSONResponse:
        """The process answers; says nothing about its dependencies."""
        return JSONResponse({"live": True})

    async def ready(self, request: Request) -> JSONResponse:
        """Whether requests can be served, and which dependency is in the way."""
        checks = await self._store.check()
        failing = [name for name, check in checks.items() if check.error]
        body = {
            "ready": not failing,
            "failing": failing,
            "checks": {name: check.as_dict() for name, check in checks.items()},
        }
        return JSONResponse(body, status_code=503 if failing else 200)

    async def version(self, request: Request) -> JSONResponse:
        return JSONResponse(self._identity.as_dict())

    async def status(self, request: Request) -> JSONResponse:
        """What the page shows: who answers, and the counters."""
        counts, visits, queued = await asyncio.gather(
            self._store.counts(), self._store.visits(), self._store.queue_length()
        )
        return JSONResponse({**self._identity.as_dict(), **counts, "visits": visits, "queued": queued})

    async def visit(self, request: Request) -> JSONResponse:
        return JSONResponse({"visits": await self._store.visit()})

    async def add(self, request: Request) -> JSONResponse:
        """Store a note: 201 the first time, 200 with the same body for a repetition."""
        body = await limited_body(request)
        note_id, text = read_note(request.headers.get("idempotency-key"), body)
        note, created = await self._store.add(note_id, text)
        if note.text != text:
            raise RequestError("this id was used for another text", status=422)
        if note.processed_at is None:
            try:
                await self._store.enqueue(note_id)
            except QUEUE_ERRORS as error:
                log.warning("note %s waits for the worker's sweep: %s", note_id, error)
        return JSONResponse(note.receipt(), status_code=201 if created else 200)

    async def count(self, request: Request) -> JSONResponse:
        return JSONResponse(await self._store.counts())

    async def find(self, request: Request) -> JSONResponse:
        note = await self._store.find(request.path_params["note_id"])
        if note is None:
            raise RequestError("no such note", status=404)
        return JSONResponse(note.as_dict())

    async def slow(self, request: Request) -> JSONResponse:
        """Answer after `seconds`: a request in flight for a rehearsal of a switch."""
        try:
            seconds = float(request.query_params.get("seconds", "5"))
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= SLOW_SECONDS:
            raise RequestError(f"seconds: a number from 0 to {SLOW_SECONDS:g}")
        await asyncio.sleep(seconds)
        return JSONResponse({"seconds": seconds, **self._identity.as_dict()})

    async def echo(self, websocket: WebSocket) -> None:
        """Send every text back until the client leaves or the process stops."""
        if self._stopping.is_set():
            await websocket.close(GOING_AWAY)
            return
        task = asyncio.current_task()
        assert task is not None
        self._websockets.add(task)
        task.add_done_callback(self._websockets.discard)
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await websocket.accept()
            while not stopping.done():
                message = asyncio.create_task(websocket.receive_text())
                await asyncio.wait({message, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not message.done():
                    message.cancel()
                    break
                await websocket.send_text(message.result())
            await websocket.close(GOING_AWAY)
        except WebSocketDisconnect:
            pass
        except KeyError:  # bytes instead of text
            await websocket.close(UNSUPPORTED)
        finally:
            stopping.cancel()


async def _refused(request: Request, error: Exception) -> JSONResponse:
    status = error.status if isinstance(error, RequestError) else 500
    return JSONResponse({"error": str(error)}, status_code=status)


async def _unavailable(request: Request, error: Exception) -> JSONResponse:
    log.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
    return JSONResponse({"error": "a dependency is not available, see /ready"}, status_code=503)


def application(service: Service, store: Notes) -> Starlette:
    """Put the service behind its routes."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        await store.open()
        try:
            yield
        finally:
            await store.close()

    handlers: dict[Any, Any] = dict.fromkeys((*DATABASE_ERRORS, *QUEUE_ERRORS), _unavailable)
    routes = service.routes()
    return Starlette(
        routes=[Mount("/api", routes=routes), *routes],
        exception_handlers={**handlers, RequestError: _refused},
        lifespan=lifespan,
    )


class Server(uvicorn.Server):
    """A server that closes its websockets politely before uvicorn cuts them with 1012."""

    def __init__(self, config: uvicorn.Config, service: Service, ignore_stop: bool = False) -> None:
        super().__init__(config)
        self._service = service
        self._ignore_stop = ignore_stop

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self._ignore_stop:
            super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._service.stop_websockets()
        await super().shutdown(sockets)


def server_config(app: ASGIApp, host: str, port: int, log_level: str) -> uvicorn.Config:
    """How uvicorn runs the service."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",
        ws="wsproto",
        access_log=False,
        server_header=False,
        log_level=log_level,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=REQUEST_SECONDS,
    )


async def serve(configuration: settings.Settings, rehearsal: rehearse.Rehearsal) -> None:
    store = Store(configuration)
    service = Service(configuration.identity, store)
    app: ASGIApp = rehearse.wrap(application(service, store), rehearsal)
    config = server_config(app, "0.0.0.0", PORT, configuration.log_level)
    await Server(config, service, ignore_stop=rehearsal.name == "ignore_stop").serve()


def main() -> None:
    try:
        configuration = settings.load(os.environ)
        rehearsal = rehearse.parse(configuration.rehearse)
    except (settings.SettingsError, rehearse.RehearsalError) as error:
        sys.exit(f"notes.api: {error}")
    logging.basicConfig(level=configuration.log_level.upper(), format="%(levelname)s %(name)s %(message)s")
    # Until uvicorn takes over, so that a stop during the start (or a rehearsed slow one) ends it: the first
    # process of a container has no default action for TERM.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: sys.exit(0))
    rehearse.at_start(rehearsal)
    asyncio.run(serve(configuration, rehearsal))


if __name__ == "__main__":
    main()
