"""What the web application firewall refuses, lets pass and writes down."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from urllib.parse import quote

import pytest
from testinfra.host import Host

from roles.nginx.molecule.default.tests.edge_client import DIRECTORY, App, Edge, Reply, assert_secure, logged, reply
from tests.lab.waiting import eventually

INJECTION = "1' OR '1'='1' UNION SELECT password FROM users--"
SCRIPT = "<script>alert(1)</script>"
TRAVERSAL = "../../../../etc/passwd"
LOG = f"{DIRECTORY}/logs/waf.log"
# Excluded for the app in vars.yml: what these rules find is let pass there, and nowhere else.
EXCLUDED = INJECTION
JSON = {"Content-Type": "application/json"}


@pytest.fixture(autouse=True)
def blue(app: App) -> None:
    app.switch("blue")


def log(host: Host) -> str:
    return str(host.run(f"cat {LOG}").stdout)


def found(host: Host) -> int:
    """How often the rule that finds scripts is in the log."""
    return log(host).count('[id "941100"]')


def workers(host: Host) -> set[str]:
    """The processes of the edge that serve, or end what they serve."""
    lines = str(host.check_output("docker top nginx-nginx-1 -eo pid,args")).splitlines()
    return {line.split()[0] for line in lines if "nginx: worker process" in line}


@pytest.mark.parametrize("attack", [SCRIPT, TRAVERSAL, "; cat /etc/passwd", "() { :; }; /bin/bash -c id"])
def test_an_attack_in_the_query_is_refused(edge: Edge, attack: str) -> None:
    answer = edge.ask(f"/api/x?q={quote(attack)}")
    assert answer.status == 403
    assert_secure(answer)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (JSON, json.dumps({"text": SCRIPT}).encode()),
        ({"Content-Type": "application/x-www-form-urlencoded"}, f"text={quote(SCRIPT)}".encode()),
        ({"Content-Type": "application/vnd.api+json"}, json.dumps({"text": SCRIPT}).encode()),
    ],
    ids=["json", "form", "vendor json"],
)
def test_an_attack_in_a_body_is_refused(edge: Edge, headers: dict[str, str], body: bytes) -> None:
    assert edge.ask("/api/x", "POST", headers, body).status == 403


def test_an_injection_is_refused_unless_the_app_does_without_the_rules(edge: Edge) -> None:
    # The other app has nothing deployed: its 503 comes before the firewall, so it is asked once something is.
    assert edge.ask(f"/api/x?q={quote(EXCLUDED)}").status == 200
    assert edge.ask(f"/api/x?q={quote(EXCLUDED + SCRIPT)}").status == 403
    edge_of_the_other = Edge(edge.address, edge.authority, "other.example.com")
    assert edge_of_the_other.ask("/").status == 503


def test_an_injection_is_refused_for_an_app_with_all_rules(host: Host, edge: Edge) -> None:
    host.run_expect([0], f"mkdir -p {DIRECTORY}/live/other && touch {DIRECTORY}/live/other/deployed")
    try:
        other = Edge(edge.address, edge.authority, "other.example.com")
        assert other.ask(f"/?q={quote(INJECTION)}").status == 403
        # It has no router: what passes ends there, with the page.
        passed = other.ask("/?q=hello")
        assert passed.status in (502, 504) and b"Back in a moment" in passed.body
        assert_secure(passed)
    finally:
        host.run_expect([0], f"rm -r {DIRECTORY}/live/other")


@pytest.mark.parametrize("asked", ["notes.example.com", "other.example.com"])
def test_no_app_is_reached_past_its_own_rules(edge: Edge, asked: str) -> None:
    """The rules are those of the name in the request line; behind them, `Host` once chose the app."""
    (host,) = {"notes.example.com", "other.example.com"} - {asked}
    assert edge.ask(f"https://{asked}/api/x?q={quote(INJECTION)}", headers={"Host": host}).status == 400


@pytest.mark.parametrize(("name", "status"), [("notes", "200"), ("other", "421"), ("unknown", "421")])
def test_behind_the_rules_an_app_answers_to_its_own_names(host: Host, name: str, status: str) -> None:
    asked = f"--unix-socket /tmp/edge-notes.sock -H 'Host: {name}.example.com' http://edge/api/x"
    command = f"docker exec nginx-nginx-1 curl -s -o /dev/null -w '%{{http_code}}' {asked}"
    assert host.check_output(command) == status


def test_a_path_may_be_left_out(edge: Edge) -> None:
    assert edge.ask(f"/small/x?q={quote(SCRIPT)}").status == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_what_the_sample_app_sends_passes(edge: Edge, method: str) -> None:
    note = {"text": "Don't forget: milk & eggs (2 x 6), 50% off -- see https://example.com/?a=1#b"}
    answer = edge.ask("/api/notes", method, JSON, json.dumps(note).encode())
    assert (answer.status, answer.json["method"]) == (200, method)


def test_an_upload_passes(edge: Edge) -> None:
    boundary = "flotilla"
    body = (
        (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        + b"\xff\xd8" * 1_000_000
        + f"\r\n--{boundary}--\r\n".encode()
    )
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    assert edge.ask("/api/x", "POST", headers, body).status == 200


@pytest.mark.parametrize("ahead", [998, 999, 2000])
def test_an_attack_behind_more_arguments_than_are_read_is_refused(edge: Edge, ahead: int) -> None:
    many = "".join(f"p{number}=1&" for number in range(ahead)) + f"q={quote(SCRIPT)}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert edge.ask("/api/x", "POST", form, many.encode()).status in (400, 403)
    members = json.dumps({f"p{number}": 1 for number in range(ahead)} | {"q": SCRIPT})
    assert edge.ask("/api/x", "POST", JSON, members.encode()).status in (400, 403)
    if ahead < 2000:
        # Longer ones are no longer a line that Nginx takes.
        assert edge.ask(f"/api/x?{many}").status in (400, 403)


def test_as_many_arguments_as_are_read_pass(edge: Edge) -> None:
    members = json.dumps({f"p{number}": "milk & eggs" for number in range(990)})
    assert edge.ask("/api/x", "POST", JSON, members.encode()).status == 200


@pytest.mark.parametrize("headers", [{}, {"Content-Type": ""}, {"Transfer-Encoding": "chunked"}])
def test_a_body_without_a_type_is_refused(edge: Edge, headers: dict[str, str]) -> None:
    body = json.dumps({"text": SCRIPT}).encode()
    if "Transfer-Encoding" in headers:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert edge.ask("/api/x", "POST", headers, body).status == 415


def test_without_a_body_no_type_is_wanted(edge: Edge) -> None:
    assert edge.ask("/api/x", "POST").status == edge.ask("/api/x", "DELETE").status == 200


def test_an_attack_in_an_attribute_of_xml_is_refused(edge: Edge) -> None:
    headers = {"Content-Type": "application/soap+xml"}
    envelope = '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body a="{}"/></s:Envelope>'
    assert edge.ask("/api/x", "POST", headers, envelope.format("milk").encode()).status == 200
    attack = envelope.format(SCRIPT.replace("<", "&lt;").replace(">", "&gt;"))
    assert edge.ask("/api/x", "POST", headers, attack.encode()).status == 403


def test_a_body_that_cannot_be_judged_does_not_pass(edge: Edge) -> None:
    headers = {"Content-Type": "application/octet-stream"}
    assert edge.ask("/api/x", "POST", headers, b"x" * 2_500_000).status == 200
    assert edge.ask("/api/x", "POST", headers, b"x" * 3_500_000).status == 403


def test_a_service_still_learns_who_asks(edge: Edge) -> None:
    told = edge.ask("/api/x", headers={"X-Forwarded-For": "192.0.2.66", "X-Request-ID": "chosen"})
    assert told.json["scheme"] == "https"
    assert told.json["client"] not in ("192.0.2.66", "unix:") and "," not in told.json["client"]
    assert told.json["request_id"] == told.header("X-Request-ID") != "chosen"


def test_an_upload_comes_to_the_colour_that_is_live_when_it_is_complete(host: Host, edge: Edge, app: App) -> None:
    connection = edge.connect()
    body = b"x" * 100_000
    connection.putrequest("POST", "/api/x")
    connection.putheader("Content-Length", str(len(body)))
    connection.putheader("Content-Type", "application/octet-stream")
    connection.endheaders()
    connection.send(body[:50_000])
    time.sleep(1)
    app.switch("green")
    connection.send(body[50_000:])
    answer: Reply = reply(connection.getresponse())
    assert (answer.status, answer.json["colour"]) == (200, "green")
    entry = logged(host, request_id=answer.header("X-Request-ID"))
    assert (entry["target"], entry["colour"], entry["release"]) == ("notes-router-green", "green", "release-of-green")


def test_the_log_names_the_rules_and_no_secret(host: Host, edge: Edge) -> None:
    headers = {**JSON, "Authorization": "Bearer hidden-bearer", "Cookie": f"session=hidden-cookie{SCRIPT}"}
    body = json.dumps({"text": SCRIPT, "password": f"hidden-password {SCRIPT}", "note": "hidden-body"}).encode()
    before = found(host)
    assert edge.ask("/api/x?token=hidden-query", "POST", headers, body).status == 403
    eventually(lambda: found(host) > before, why="what was found is written down")
    written = log(host)
    output = host.run("docker logs nginx-nginx-1 2>&1").stdout
    for hidden in ("bearer", "cookie", "password", "body", "query"):
        assert f"hidden-{hidden}" not in written
        assert f"hidden-{hidden}" not in output
    assert host.file(f"{DIRECTORY}/logs").mode & 0o007 == 0


@pytest.fixture
def only_detecting(host: Host) -> Iterator[None]:
    """The rules as `nginx_waf: detect` writes them: the engine's mode is the one line that differs."""

    def mode(before: str, after: str) -> None:
        host.run_expect([0], f"sed -i 's/^SecRuleEngine {before}$/SecRuleEngine {after}/' {DIRECTORY}/conf/waf.conf")
        host.run_expect([0], f"grep -qx 'SecRuleEngine {after}' {DIRECTORY}/conf/waf.conf")
        old = workers(host)
        host.run_expect([0], "docker exec nginx-nginx-1 sh -c 'kill -HUP 1'")
        eventually(lambda: workers(host) and not workers(host) & old, why="other workers have taken over")

    mode("On", "DetectionOnly")
    yield
    mode("DetectionOnly", "On")


@pytest.mark.usefixtures("only_detecting")
def test_detecting_only_writes_down(host: Host, edge: Edge) -> None:
    before = found(host)
    assert edge.ask(f"/api/x?q={quote(SCRIPT)}").status == 200
    eventually(lambda: found(host) > before, why="what was found is written down")
    assert found(host) == before + 1


def test_the_container_is_confined_all_the_same(host: Host) -> None:
    (container,) = json.loads(host.check_output("docker inspect nginx-nginx-1"))
    assert container["Config"]["User"] == "101:101"
    assert container["HostConfig"]["CapDrop"] == ["ALL"]
    assert container["HostConfig"]["ReadonlyRootfs"]
    assert container["HostConfig"]["Memory"] == 512 * 1024 * 1024
    assert container["State"]["Health"]["Status"] == "healthy"
