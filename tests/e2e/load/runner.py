"""Send a plan's streams at their pace until a bound is reached or someone says stop."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import resource
import ssl
import time
from collections import defaultdict
from collections.abc import Callable

from . import websocket
from .client import Connection, Pool, Response
from .plan import Kind, Mode, Plan, Stream
from .result import Answer, Failure, Latency, Reason, RequestError, Result

# More requests of one stream than these waiting for an answer: the target hangs, and sending on would only
# measure this machine.
MAX_IN_FLIGHT = 500


class Run:
    """The state of one run: its result, its bounds and its clock."""

    def __init__(self, plan: Plan, stop: asyncio.Event) -> None:
        self.plan = plan
        self.stop = stop
        self.run_id = plan.run_id or f"load-{time.time_ns():x}"
        self.address = plan.target.address()
        self.context: ssl.SSLContext | None = plan.target.ssl_context()
        self.begin = time.perf_counter()
        self.result = Result(started=time.time())
        self.samples: dict[str, list[float]] = defaultdict(list)
        self._numbers = itertools.count(1)

    def next_number(self) -> int | None:
        """The number of the next request, or None when the run is over."""
        if self.stop.is_set() or self.result.requests >= self.plan.max_requests:
            return None
        if time.perf_counter() - self.begin >= self.plan.seconds:
            return None
        self.result.requests += 1
        return next(self._numbers)

    def succeed(self, stream: Stream, scheduled: float, answer: Answer) -> None:
        """Count an answer to the request that was due at `scheduled` (perf_counter)."""
        self.samples[stream.name].append(time.perf_counter() - scheduled)
        self.result.record(answer, time.time())

    def fail(self, stream: Stream, error: RequestError, request_id: str = "", release: str = "") -> None:
        """Count a failure."""
        self.result.fail(
            Failure(
                at=round(time.perf_counter() - self.begin, 4),
                time=time.time(),
                stream=stream.name,
                reason=error.reason,
                detail=error.detail,
                status=error.status,
                release=release,
                request_id=request_id,
            )
        )

    async def pause(self, seconds: float) -> None:
        """Sleep, but not past a stop."""
        if seconds > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), seconds)

    async def until(self, moment: float) -> None:
        """Sleep until `moment` (perf_counter) or a stop; cheaper than `pause` where many are short."""
        while (left := moment - time.perf_counter()) > 0 and not self.stop.is_set():
            await asyncio.sleep(min(left, 0.2))


class HttpStream:
    """The requests of one stream."""

    def __init__(self, run: Run, stream: Stream) -> None:
        self._run = run
        self._stream = stream
        self.pool = Pool(run.plan.target, run.address, run.context, stream.connections)
        self._headers = [("Host", run.plan.target.host_header), ("User-Agent", "flotilla-load")]
        if stream.mode is Mode.NEW:
            self._headers.append(("Connection", "close"))

    async def drive(self) -> None:
        """Send until the run is over, then wait for the answers still due."""
        try:
            if self._stream.rate is not None:
                await self._open_loop(self._stream.rate)
            else:
                await asyncio.gather(*(self._closed_loop() for _ in range(self._stream.concurrency or 0)))
        finally:
            self.pool.close()

    async def _closed_loop(self) -> None:
        while (number := self._run.next_number()) is not None:
            failures = len(self._run.result.failures)
            await self.one(number, time.perf_counter())
            if len(self._run.result.failures) > failures:
                await self._run.pause(0.02)  # a target that refuses at once is not asked in a busy loop

    async def _open_loop(self, rate: float) -> None:
        waiting: set[asyncio.Task[None]] = set()
        begin = time.perf_counter()
        for turn in itertools.count():
            scheduled = begin + turn / rate
            await self._run.until(scheduled)
            number = self._run.next_number()
            if number is None:
                break
            self._run.result.lag = max(self._run.result.lag, (time.perf_counter() - scheduled) * 1000)
            if len(waiting) >= MAX_IN_FLIGHT:
                detail = f"{MAX_IN_FLIGHT} requests wait for an answer"
                self._run.fail(self._stream, RequestError(Reason.OVERLOAD, detail))
                continue
            task = asyncio.create_task(self.one(number, scheduled))
            waiting.add(task)
            task.add_done_callback(waiting.discard)
        if waiting:
            await asyncio.gather(*waiting)

    async def one(self, number: int, scheduled: float) -> None:
        """One request, from the connection to the verdict."""
        stream, run = self._stream, self._run
        request_id = f"{run.run_id}-{number}" if stream.kind is Kind.POST else ""
        release = ""
        try:
            async with asyncio.timeout(scheduled + run.plan.timeout - time.perf_counter()):
                response = await self._exchange(request_id)
            release, colour = response.identity()
            self._judge(response, request_id)
        except (RequestError, TimeoutError) as error:
            if not isinstance(error, RequestError):
                error = RequestError(Reason.TIMEOUT, f"no answer within {run.plan.timeout:g} s")
            run.fail(stream, error, request_id, release)
            if request_id:
                run.result.unacknowledged.append(request_id)
        else:
            run.succeed(stream, scheduled, Answer(response.status, release, colour))
            if request_id:
                run.result.acknowledged.append(request_id)

    async def _exchange(self, request_id: str) -> Response:
        keep = self._stream.mode is Mode.KEEPALIVE
        connection: Connection = await (self.pool.acquire() if keep else self.pool.open())
        try:
            response = await self._send(connection, request_id)
        except BaseException:
            if keep:
                self.pool.abort(connection)
            else:
                connection.abort()
            raise
        if keep:
            self.pool.release(connection)
        else:
            connection.close()
        return response

    async def _send(self, connection: Connection, request_id: str) -> Response:
        if not request_id:
            return await connection.request("GET", self._stream.path, self._headers, b"")
        body = json.dumps({"id": request_id, "text": f"a note of run {request_id}"}).encode()
        headers = [
            *self._headers,
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(body))),
            ("Idempotency-Key", request_id),
        ]
        return await connection.request("POST", self._stream.path, headers, body)

    def _judge(self, response: Response, request_id: str) -> None:
        if response.status != self._stream.expect:
            detail = response.body[:200].decode("utf-8", "replace")
            raise RequestError(Reason.STATUS, detail, response.status)
        if request_id:
            try:
                stored = json.loads(response.body)["id"]
            except (ValueError, KeyError, TypeError) as error:
                raise RequestError(Reason.CONTENT, "the answer has no id", response.status) from error
            if stored != request_id:
                raise RequestError(Reason.CONTENT, f"the answer is about {stored!r}", response.status)


async def run(plan: Plan, stop: asyncio.Event | None = None, on_start: Callable[[], None] | None = None) -> Result:
    """Run a plan to its end, or until `stop` is set. Raises PlanError for a target that is not ours."""
    current = Run(plan, stop or asyncio.Event())
    streams = [HttpStream(current, stream) for stream in plan.streams if stream.kind is not Kind.WEBSOCKET]
    websockets = [
        websocket.talk(current, stream)
        for stream in plan.streams
        if stream.kind is Kind.WEBSOCKET
        for _ in range(stream.concurrency or 0)
    ]
    before = resource.getrusage(resource.RUSAGE_SELF)
    if on_start:
        on_start()
    await asyncio.gather(*(stream.drive() for stream in streams), *websockets)
    after = resource.getrusage(resource.RUSAGE_SELF)
    result = current.result
    result.seconds = round(time.perf_counter() - current.begin, 3)
    result.cpu_seconds = round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 3)
    result.lag = round(result.lag, 1)
    result.connections += sum(stream.pool.opened for stream in streams)
    result.idle_closed = sum(stream.pool.idle_closed for stream in streams)
    result.latency = {name: Latency.of(sample) for name, sample in sorted(current.samples.items())}
    return result
