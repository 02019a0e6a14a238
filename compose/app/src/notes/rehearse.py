"""Faults on demand, so that a team can rehearse what a bad release does. Off unless REHEARSE is set.

crash[:S]              exit with code 3, S seconds (0) after the start
slow_start:S           listen only after S seconds
unhealthy              `/live` answers 500
not_ready              `/ready` answers 503
error_after_ready[:S]  S seconds (0) after the first good `/ready`, all but `/live` and `/ready` answers 500
slow_answers:S         all answers but those of `/live` and `/ready` take S seconds longer
memory[:MB]            take MB megabytes (2048) and hold them: the memory limit kills the process
ignore_stop            do not stop on TERM: the engine kills it after the grace period
migration_fails        the migration fails after its first statement, which is rolled back
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Faults with a number → its default; None: it must be given.
_NUMBERS: dict[str, float | None] = {
    "crash": 0,
    "slow_start": None,
    "slow_answers": None,
    "error_after_ready": 0,
    "memory": 2048,
}
_PLAIN = frozenset({"unhealthy", "not_ready", "ignore_stop", "migration_fails"})

log = logging.getLogger("notes.rehearse")


LARGEST = 86400


class RehearsalError(Exception):
    """REHEARSE names nothing that can be rehearsed."""


@dataclass(frozen=True)
class Rehearsal:
    """One fault; `name` is empty for none."""

    name: str = ""
    number: float = 0

    def __bool__(self) -> bool:
        return bool(self.name)


def parse(text: str) -> Rehearsal:
    """Read REHEARSE. Raises RehearsalError."""
    name, separator, number = text.strip().partition(":")
    if not name and not separator:
        return Rehearsal()
    if name in _PLAIN and not separator:
        return Rehearsal(name)
    if name in _NUMBERS:
        default = _NUMBERS[name]
        try:
            value = float(number) if separator else default
        except ValueError:
            value = None
        if value is not None and 0 <= value <= LARGEST:
            return Rehearsal(name, value)
    known = ", ".join(sorted({*_PLAIN, *_NUMBERS}))
    raise RehearsalError(f"REHEARSE: {text!r} cannot be rehearsed; known: {known}")


def at_start(rehearsal: Rehearsal) -> None:
    """What happens before the service listens or the worker works."""
    if rehearsal:
        log.warning("rehearsing %s %g", rehearsal.name, rehearsal.number)
    if rehearsal.name == "slow_start":
        time.sleep(rehearsal.number)
    elif rehearsal.name == "crash":
        if rehearsal.number == 0:
            raise SystemExit(3)
        timer = threading.Timer(rehearsal.number, os._exit, args=(3,))
        timer.daemon = True
        timer.start()
    elif rehearsal.name == "memory":
        threading.Thread(target=_hoard, args=(int(rehearsal.number),), daemon=True).start()


def _hoard(megabytes: int) -> None:
    hoard = [b"x" * (1 << 20) for _ in range(megabytes)]
    while hoard:
        time.sleep(3600)


def wrap(app: App, rehearsal: Rehearsal) -> App:
    """Put the faults that show in answers in front of the app; without any, the app itself."""
    if rehearsal.name not in {"unhealthy", "not_ready", "slow_answers", "error_after_ready"}:
        return app
    ready_at: float | None = None

    async def faulty(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal ready_at
        path = str(scope.get("path", "")).removeprefix("/api")
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif rehearsal.name == "unhealthy" and path == "/live":
            await _answer(send, 500)
        elif rehearsal.name == "not_ready" and path == "/ready":
            await _answer(send, 503)
        elif rehearsal.name == "slow_answers" and path not in {"/live", "/ready"}:
            await asyncio.sleep(rehearsal.number)
            await app(scope, receive, send)
        elif rehearsal.name == "error_after_ready" and path == "/ready":

            async def watch(message: MutableMapping[str, Any]) -> None:
                nonlocal ready_at
                if message["type"] == "http.response.start" and message["status"] == HTTPStatus.OK and ready_at is None:
                    ready_at = time.monotonic()
                await send(message)

            await app(scope, receive, watch)
        elif ready_at is not None and path != "/live" and time.monotonic() - ready_at >= rehearsal.number:
            await _answer(send, 500)
        else:
            await app(scope, receive, send)

    return faulty


async def _answer(send: Send, status: int) -> None:
    body = b'{"error": "rehearsed"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
