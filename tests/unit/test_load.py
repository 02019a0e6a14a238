"""The load generator against servers that misbehave: each failure is counted once, with its reason."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import json
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from websockets.asyncio.server import ServerConnection, serve

from tests.e2e.load import BackgroundLoad, Kind, Latency, Mode, Plan, PlanError, Reason, Result, Stream, Target, run

NAME = "staging.example.com"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answer(body: bytes = b"{}", status: int = 200, headers: str = "", length: int | None = None) -> bytes:
    """An HTTP answer; `length` lies about its body."""
    size = len(body) if length is None else length
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n{headers}\r\n"
    return head.encode() + body


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Head and body of the next request; an empty head at the end of the stream."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
    except asyncio.IncompleteReadError:
        return "", b""
    length = next(
        (int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")), 0
    )
    return head, await reader.readexactly(length)


def scripted(respond: Callable[[int, str, bytes], bytes | None]) -> Handler:
    """A keepalive server: `respond(turn, head, body)` gives the bytes of an answer, or None to hang up."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        turn = 0
        while (request := await read_request(reader))[0]:
            turn += 1
            data = respond(turn, *request)
            if data is None:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    return handle


def plan(port: int, *streams: Stream, seconds: float = 5.0, requests: int = 20, timeout: float = 2.0) -> Plan:
    return Plan(Target(f"http://127.0.0.1:{port}"), streams or (Stream(rate=500),), seconds, requests, timeout=timeout)


@asynccontextmanager
async def listening(handler: Handler, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of a server on loopback."""
    server = await asyncio.start_server(handler, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def against(handler: Handler, *streams: Stream, **bounds: Any) -> Result:
    """The result of a short run against a server."""

    async def scene() -> Result:
        async with listening(handler) as port:
            return await run(replace(plan(port, *streams), **bounds))

    return asyncio.run(scene())


ONE_AT_A_TIME = Stream(concurrency=1, connections=1)


def test_good_answers_are_counted_with_their_release() -> None:
    identity = "X-Flotilla-Release: r1\r\nX-Flotilla-Colour: blue\r\n"

    stream = Stream(concurrency=5, connections=10)
    result = against(scripted(lambda turn, head, body: answer(headers=identity)), stream)

    assert result.passed
    assert (result.requests, result.succeeded, result.statuses) == (20, 20, {"200": 20})
    assert result.releases["r1"].count == 20
    assert result.colours == {"blue": 20}
    assert result.latency["get-keepalive"].count == 20
    assert result.connections == 10


def test_the_release_is_read_from_the_body_where_the_edge_hides_the_header() -> None:
    result = against(scripted(lambda turn, head, body: answer(b'{"release": "r2", "colour": "green"}')))

    assert result.releases["r2"].count == 20
    assert result.colours == {"green": 20}


def test_a_keepalive_connection_dropped_on_a_request_is_a_failure_and_is_not_retried() -> None:
    served = []

    def respond(turn: int, head: str, body: bytes) -> bytes | None:
        served.append(turn)
        return answer() if turn == 1 else None

    result = against(scripted(respond), ONE_AT_A_TIME)

    assert result.reasons == {"closed": 10}
    assert result.succeeded == 10
    assert len(served) == result.requests == 20


def test_an_announced_close_is_no_failure() -> None:
    result = against(scripted(lambda turn, head, body: answer(headers="Connection: close\r\n")), ONE_AT_A_TIME)

    assert result.passed
    assert result.connections == 20


def test_a_close_seen_while_idle_costs_a_connection_and_no_request() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(answer())
        writer.close()

    result = against(handle, Stream(rate=10, connections=1), max_requests=5)

    assert result.passed
    assert result.idle_closed == 4
    assert result.connections == 5


@pytest.mark.parametrize(
    ("data", "reason", "status"),
    [
        (answer(b'{"error": "boom"}', status=500), Reason.STATUS, 500),
        (answer(status=503), Reason.STATUS, 503),
        (answer(status=301, headers="Location: /elsewhere\r\n"), Reason.STATUS, 301),
        (b"not HTTP at all\r\n\r\n", Reason.PROTOCOL, 0),
        (None, Reason.CLOSED, 0),
    ],
)
@pytest.mark.parametrize("mode", list(Mode))
def test_each_bad_answer_is_one_failure(data: bytes | None, reason: Reason, status: int, mode: Mode) -> None:
    result = against(scripted(lambda turn, head, body: data), Stream(mode=mode, rate=500))

    assert result.succeeded == 0
    assert not result.passed
    assert {(failure.reason, failure.status, failure.stream) for failure in result.failures} == {
        (reason, status, f"get-{mode}")
    }
    assert len(result.failures) == result.requests == 20


@pytest.mark.parametrize("data", [answer(b"half", length=100), b"HTTP/1.1 200 OK\r\nContent-"])
def test_an_answer_cut_off_is_a_failure(data: bytes) -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(data)
        await writer.drain()
        writer.close()

    assert against(handle, ONE_AT_A_TIME, max_requests=3).reasons == {"truncated": 3}


def test_a_reset_is_a_failure() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.transport.abort()

    assert against(handle, ONE_AT_A_TIME, max_requests=3).reasons == {"closed": 3}


def test_a_server_that_hangs_fails_each_request_in_time() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    result = against(handle, Stream(rate=100), max_requests=10, timeout=1)

    assert result.reasons == {"timeout": 10}
    assert result.seconds < 8  # one after the other they would take 10 s


def test_an_open_loop_does_not_wait_for_a_slow_server() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        await asyncio.sleep(0.5)
        writer.write(answer())

    result = against(handle, Stream(rate=40), max_requests=20, timeout=30)

    assert result.passed
    assert result.seconds < 8  # one after the other they would take 10 s
    assert result.latency["get-keepalive"].p50 >= 500


def test_nobody_listening_is_a_failure_each_time() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        result = asyncio.run(run(plan(unused.getsockname()[1], requests=5)))

    assert result.reasons == {"connect": 5}


def test_a_run_ends_by_its_time_and_by_a_stop() -> None:
    async def scene() -> tuple[Result, Result]:
        async with listening(scripted(lambda turn, head, body: answer())) as port:
            by_time = await run(plan(port, Stream(rate=50), seconds=0.4, requests=1000))
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(0.2, stop.set)
            return by_time, await run(plan(port, Stream(rate=50), seconds=60, requests=1000), stop)

    by_time, by_stop = asyncio.run(scene())

    assert by_time.passed
    assert 0.3 < by_time.seconds < 15  # all its requests would take 20 s
    assert by_stop.passed
    assert by_stop.seconds < 15


# POST


def test_posts_carry_an_id_each_and_tell_the_acknowledged_from_the_others() -> None:
    seen = []

    def respond(turn: int, head: str, body: bytes) -> bytes:
        note = json.loads(body)["id"]
        assert f"Idempotency-Key: {note}\r\n" in head
        seen.append(note)
        return answer(json.dumps({"id": note}).encode(), status=500 if len(seen) % 4 == 0 else 201)

    result = against(scripted(respond), Stream(Kind.POST, rate=500))

    assert len(set(seen)) == 20
    assert sorted([*result.acknowledged, *result.unacknowledged]) == sorted(seen)
    assert len(result.unacknowledged) == 5
    assert {failure.request_id for failure in result.failures} == set(result.unacknowledged)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b'{"id": "of another request"}', 201, Reason.CONTENT),
        (b"[]", 201, Reason.CONTENT),
        (b"<html>", 201, Reason.CONTENT),
        (b'{"id": "x"}', 200, Reason.STATUS),  # it was there before: someone sent it twice
    ],
)
def test_a_post_needs_its_own_answer(body: bytes, status: int, reason: Reason) -> None:
    result = against(scripted(lambda turn, head, _: answer(body, status)), Stream(Kind.POST, rate=500))

    assert result.reasons == {str(reason): 20}
    assert result.acknowledged == []


# Websockets


def websockets_against(handler: Callable[[ServerConnection], Awaitable[None]], seconds: float) -> Result:
    async def scene() -> Result:
        async with serve(handler, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            return await run(plan(port, Stream(Kind.WEBSOCKET, concurrency=1), seconds=seconds, requests=100))

    return asyncio.run(scene())


def test_a_websocket_echoes() -> None:
    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    result = websockets_against(echo, seconds=1.3)

    assert result.passed
    assert result.succeeded >= 3  # the handshake and two messages


@pytest.mark.parametrize(("code", "goodbye"), [(1000, True), (1001, True), (1011, False), (1012, False)])
def test_only_an_orderly_close_of_a_websocket_is_a_goodbye(code: int, goodbye: bool) -> None:
    async def leave(connection: ServerConnection) -> None:
        await asyncio.sleep(0.1)
        await connection.close(code)

    result = websockets_against(leave, seconds=0.8)

    assert (result.goodbyes > 0) == goodbye
    assert ("closed" in result.reasons) != goodbye


def test_a_websocket_cut_without_a_word_is_a_failure() -> None:
    async def cut(connection: ServerConnection) -> None:
        connection.transport.abort()

    assert "closed" in websockets_against(cut, seconds=0.8).reasons


def test_a_wrong_echo_is_a_failure() -> None:
    async def lie(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send("something else")

    assert "content" in websockets_against(lie, seconds=0.9).reasons


@pytest.mark.parametrize(
    ("data", "reason"), [(answer(status=502), "status"), (None, "closed"), (b"garbage\r\n\r\n", "protocol")]
)
def test_a_websocket_that_does_not_open_is_a_failure(data: bytes | None, reason: str) -> None:
    stream = Stream(Kind.WEBSOCKET, concurrency=1)

    assert against(scripted(lambda turn, head, body: data), stream, max_requests=2).reasons == {reason: 2}


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for NAME with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        signed.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return path


@pytest.mark.parametrize("mode", list(Mode))
def test_tls_and_the_host_header_use_the_server_name(certificate: Path, mode: Mode) -> None:
    names: list[str] = []
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: names.append(name)

    def respond(turn: int, head: str, body: bytes) -> bytes:
        return answer(status=200 if f"Host: {NAME}\r\n" in head else 421)

    async def scene() -> Result:
        async with listening(scripted(respond), context) as port:
            target = Target(f"https://127.0.0.1:{port}", NAME, str(certificate))
            return await run(Plan(target, (Stream(mode=mode, concurrency=3, connections=3),), 5, 10))

    result = asyncio.run(scene())

    assert result.passed, result.summary()
    assert names == [NAME] * (3 if mode is Mode.KEEPALIVE else 10)


def test_a_certificate_for_another_name_is_a_failure(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def scene() -> Result:
        async with listening(scripted(lambda turn, head, body: answer()), context) as port:
            target = Target(f"https://127.0.0.1:{port}", "other.example.com", str(certificate))
            return await run(Plan(target, (Stream(rate=50), Stream(Kind.WEBSOCKET, concurrency=1)), 5, 4))

    assert asyncio.run(scene()).reasons == {"tls": 4}


# Plans and results


@pytest.mark.parametrize("url", ["http://192.0.2.1:80", "http://10.76.0.1", "http://10.80.0.1", "http://172.17.0.2"])
def test_load_is_refused_for_addresses_that_are_not_ours(url: str) -> None:
    with pytest.raises(PlanError, match="load is sent to"):
        asyncio.run(run(Plan(Target(url), (Stream(rate=1),), 1)))


@pytest.mark.parametrize("address", ["127.0.0.1", "10.77.1.10", "10.78.3.4", "10.79.255.255"])
def test_the_lab_and_loopback_are_ours(address: str) -> None:
    assert Target(f"http://{address}").address() == str(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "build",
    [
        lambda: Target("ftp://127.0.0.1"),
        lambda: Target("127.0.0.1:80"),
        lambda: Target("http://127.0.0.1/path"),
        lambda: Target("https://127.0.0.1"),
        lambda: Stream(),
        lambda: Stream(rate=1, concurrency=1),
        lambda: Stream(rate=0),
        lambda: Stream(rate=1e9),
        lambda: Stream(concurrency=0),
        lambda: Stream(Kind.WEBSOCKET, rate=1),
        lambda: Stream(rate=1, path="no-slash"),
        lambda: Stream.parse("get:keepalive"),
        lambda: Stream.parse("fetch:new:5"),
        lambda: Stream.parse("get:new:xx"),
        lambda: Plan(Target("http://127.0.0.1"), (), 1),
        lambda: Plan(Target("http://127.0.0.1"), (Stream(rate=1),), 0),
        lambda: Plan(Target("http://127.0.0.1"), (Stream(rate=1),), 1e9),
        lambda: Plan(Target("http://127.0.0.1"), (Stream(rate=1),), 1, max_requests=0),
    ],
)
def test_an_unusable_plan_is_refused(build: Callable[[], object]) -> None:
    with pytest.raises(PlanError):
        build()


def test_a_stream_is_read_from_text() -> None:
    assert Stream.parse("slow:new:x3:/slow?seconds=2") == Stream(
        Kind.SLOW, Mode.NEW, concurrency=3, path="/slow?seconds=2"
    )
    assert Stream.parse("get:keepalive:50") == Stream(rate=50)


def test_plan_and_result_survive_json() -> None:
    original = plan(1, Stream(Kind.POST, Mode.NEW, rate=5), Stream(Kind.WEBSOCKET, concurrency=2))
    assert Plan.from_json(original.to_json()) == original

    result = against(scripted(lambda turn, head, body: answer(status=200 if turn % 2 else 500)))
    assert result.failures
    assert Result.from_json(result.to_json()) == result


def test_percentiles_are_nearest_rank() -> None:
    assert Latency.of([number / 1000 for number in range(1, 101)]) == Latency(100, 50, 90, 95, 99, 100)
    assert Latency.of([]) == Latency(0, 0, 0, 0, 0, 0)


def test_a_background_run_is_stopped_with_its_result() -> None:
    async def scene() -> Result:
        async with listening(scripted(lambda turn, head, body: answer())) as port:

            def foreground() -> Result:
                with BackgroundLoad(plan(port, Stream(rate=50), seconds=60, requests=10_000)) as load:
                    socket.create_connection(("127.0.0.1", port)).close()
                    return load.stop()

            return await asyncio.to_thread(foreground)

    result = asyncio.run(scene())

    assert not result.failures
    assert result.seconds < 10


def test_a_background_run_that_cannot_start_says_so() -> None:
    target = Target("http://192.0.2.1")
    with pytest.raises(RuntimeError, match="exit code 2"), BackgroundLoad(Plan(target, (Stream(rate=1),), 1)):
        pass
