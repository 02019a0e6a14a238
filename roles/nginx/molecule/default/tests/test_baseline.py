"""The rules of the dev-sec nginx baseline that apply to an edge in a container of its own.

Left out:
  buffers of 1 KB    cookies and uploads are larger; both have limits here: test_limits.py.
  a timeout of 5 s   for connections that are kept: each new one is a handshake; who holds many is limited.
  X-XSS-Protection   browsers have removed that filter, as it opened holes; OWASP says to leave the header away.
  DH parameters      no cipher with finite-field Diffie-Hellman is offered.
  default-src        where its content is from is the app's to say; the edge forbids what no page needs.
  cookies            `Secure` and `HttpOnly` are the app's to set.
"""

from __future__ import annotations

import http.client
import re

import pytest
from testinfra.host import Host

from roles.nginx.molecule.default.tests.edge_client import DIRECTORY, TOO_LONG, Edge, logged, reply

CONTAINER = "nginx-nginx-1"
CONFIGURATION = "nginx -T -q -e stderr -c /etc/flotilla/conf/nginx.conf"


@pytest.fixture(scope="module")
def configuration(host: Host) -> str:
    """What Nginx reads, with all that is included."""
    return str(host.check_output(f"docker exec {CONTAINER} {CONFIGURATION}"))


def test_no_process_is_roots(host: Host) -> None:  # nginx-01
    users = host.check_output(f"docker top {CONTAINER} -eo pid,uid,comm").splitlines()[1:]
    assert len(users) >= 3
    assert {line.split()[1] for line in users} == {"101"}


@pytest.mark.parametrize("name", ["nginx.conf"])  # nginx-02
def test_the_configuration_is_written_by_root_and_read_by_the_edge_alone(host: Host, name: str) -> None:
    file = host.file(f"{DIRECTORY}/conf/{name}")
    assert (file.user, file.gid, file.mode) == ("root", 101, 0o640)


def test_nothing_of_the_images_own_configuration_is_read(configuration: str) -> None:  # nginx-03
    read = set(re.findall(r"^# configuration file (\S+):$", configuration, re.MULTILINE))
    assert read == {"/etc/flotilla/conf/nginx.conf", "/etc/nginx/mime.types"}


def test_a_container_has_one_nginx(host: Host) -> None:  # nginx-04
    commands = host.check_output(f"docker top {CONTAINER} -eo pid,args")
    assert commands.count("nginx: master process") == 1


@pytest.mark.parametrize("path", ["/", "/%zz", "/" + TOO_LONG], ids=["a page", "a wrong address", "a long address"])
def test_no_answer_tells_the_version(edge: Edge, path: str) -> None:  # nginx-05
    answer = edge.ask(path)
    assert answer.status >= 400
    assert answer.header("Server") in (None, "nginx")
    assert not re.search(rb"nginx/\d", answer.body)


@pytest.mark.parametrize(  # nginx-06, nginx-07: a bound for each, which test_limits.py tries
    "directive",
    [
        *("large_client_header_buffers", "client_max_body_size", "client_header_timeout", "client_body_timeout"),
        *("send_timeout", "keepalive_timeout", "limit_conn_zone", "limit_conn", "limit_req_zone", "limit_req"),
    ],
)
def test_what_a_client_may_take_has_a_bound(configuration: str, directive: str) -> None:
    values = re.findall(rf"^\s*{directive} (.+);$", configuration, re.MULTILINE)
    assert values
    assert directive == "client_max_body_size" or not any(re.match(r"0\D?$", value) for value in values)


@pytest.mark.parametrize(  # nginx-08 and those after it
    ("header", "value"),
    [
        ("X-Frame-Options", "SAMEORIGIN"),
        ("X-Content-Type-Options", "nosniff"),
        ("Strict-Transport-Security", "max-age=63072000"),
        ("X-XSS-Protection", None),
        ("X-Powered-By", None),
    ],
)
def test_browsers_are_told_what_not_to_do(edge: Edge, header: str, value: str | None) -> None:
    assert edge.ask("/").header(header) == value


@pytest.mark.parametrize("part", ["object-src 'none'", "base-uri 'self'", "frame-ancestors 'self'"])
def test_a_policy_says_what_no_page_needs(edge: Edge, part: str) -> None:
    assert part in (edge.ask("/").header("Content-Security-Policy") or "")


@pytest.mark.parametrize("method", ["TRACE", "TRACK", "CONNECT"])
def test_methods_that_reflect_or_pass_on_are_refused(edge: Edge, method: str) -> None:
    connection = edge.connect()
    connection.putrequest(method, edge.name if method == "CONNECT" else "/", skip_host=True)
    connection.putheader("Host", edge.name)
    connection.putheader("X-Reflected", "marked")
    connection.endheaders()
    try:
        answer = reply(connection.getresponse())
    except http.client.HTTPException:
        return
    finally:
        connection.close()
    assert answer.status in (400, 403, 405, 501, 503)
    assert b"marked" not in answer.body


def test_tls_has_no_tickets_and_the_client_chooses_among_good_ciphers(configuration: str) -> None:
    values = dict(re.findall(r"^\s*(ssl_\w+) (.+);$", configuration, re.MULTILINE))
    assert values["ssl_session_tickets"] == "off"
    assert values["ssl_protocols"] == "TLSv1.2 TLSv1.3"
    assert all(name.startswith("ECDHE-") for name in values["ssl_ciphers"].split(":"))


def test_each_request_is_logged_with_who_asked_for_what(host: Host, edge: Edge) -> None:
    edge.ask("/for-the-log")
    found = logged(host, uri="/for-the-log")
    assert found["client"] and found["time"] and found["status"] == 503
