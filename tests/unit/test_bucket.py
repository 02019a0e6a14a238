"""Whether object storage keeps what its writer deletes: what S3 is asked, and what its answers mean."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flotilla import bucket

from tests.lab.waiting import eventually

S3 = {"bucket": "b", "endpoint": "s3.example.com", "region": "us-east-1", "key": "access", "secret": "s3cret"}
VERSIONS = (200, "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>")
LOCKED = (
    200,
    "<ObjectLockConfiguration><ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
    "<Mode>COMPLIANCE</Mode><Days>14</Days></DefaultRetention></Rule></ObjectLockConfiguration>",
)
DENIED = (403, "<Error><Code>AccessDenied</Code></Error>")


def test_a_bucket_that_keeps_versions_and_locks_them_is_well() -> None:
    assert bucket.judge(VERSIONS, LOCKED, DENIED, 7) == ("compliance, 14 days", [])


@pytest.mark.parametrize(
    ("versioning", "lock", "deletion", "words"),
    [
        ((200, "<VersioningConfiguration/>"), LOCKED, DENIED, "does not say that it keeps versions (200)"),
        ((200, "<Status>Suspended</Status>"), LOCKED, DENIED, "does not say that it keeps versions (200)"),
        (VERSIONS, (404, "<Code>ObjectLockConfigurationNotFoundError</Code>"), DENIED, "that it locks objects (404)"),
        (VERSIONS, DENIED, DENIED, "does not say that it locks objects (403)"),
        (VERSIONS, (200, LOCKED[1].replace("14", "6")), DENIED, "locks objects for 6 days, and backups are kept for 7"),
        (VERSIONS, LOCKED, (204, ""), "the host's key may remove versions (a delete was answered with 204)"),
    ],
)
def test_what_does_not_survive_its_writer_is_told(
    versioning: tuple[int, str], lock: tuple[int, str], deletion: tuple[int, str], words: str
) -> None:
    (found,) = bucket.judge(versioning, lock, deletion, 7)[1]
    assert words in found


def test_years_are_days() -> None:
    assert bucket.judge(VERSIONS, (200, "<Mode>GOVERNANCE</Mode><Years>1</Years>"), DENIED, 300)[1] == []


def look(s3: Mapping[str, Any], prefix: str, days: int) -> tuple[str, list[str]]:
    return "no lock, 0 days", ["it does not lock"] if s3["bucket"] == "b" else []


@pytest.mark.parametrize(("elsewhere", "problems"), [(True, 0), (False, 1)])
def test_without_another_copy_it_is_a_problem(elsewhere: bool, problems: int) -> None:
    said = bucket.report({"db-1": (S3, "db-1", 7)}, elsewhere, look)
    assert said["lines"] == ["buckets", "  db-1  bucket b, db-1/: no lock, 0 days; it does not lock"]
    assert len(said["problems"]) == problems


def test_without_object_storage_nothing_is_said() -> None:
    assert bucket.report({}, False, look) == {"lines": [], "problems": []}


def test_a_storage_that_is_away_is_told() -> None:
    line, wrong = bucket.looked({**S3, "endpoint": "127.0.0.1:1", "uri_style": "path"}, "db-1", 7)
    assert line == "not reached"
    assert "cannot be asked from here" in wrong[0]


def test_the_secret_is_in_no_header() -> None:
    now = datetime(2026, 11, 22, 10, tzinfo=UTC)
    headers = bucket.signed(S3, "GET", "b.s3.example.com", "/", {"versioning": ""}, now)
    assert headers["x-amz-date"] == "20261122T100000Z"
    assert "Credential=access/20261122/us-east-1/s3/aws4_request" in headers["authorization"]
    assert "s3cret" not in str(headers)


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """One that speaks S3, checks signatures, and lets whoever writes delete."""
    place = tmp_path_factory.mktemp("storage")
    (place / "buckets/notes").mkdir(parents=True)
    name = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    files = ("-keyout", str(place / "key"), "-out", str(place / "crt"))
    subprocess.run(["openssl", "req", "-x509", *kind, *name, *files], check=True, capture_output=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        endpoint = f"localhost:{free.getsockname()[1]}"
    serve = ("serve", "s3", "--addr", endpoint, "--cert", str(place / "crt"), "--key", str(place / "key"))
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / "rclone"), *serve, str(place / "buckets")],
        env={**os.environ, "RCLONE_AUTH_KEY": '"backup,s3cret"', "RCLONE_CONFIG": os.devnull},
        stderr=subprocess.DEVNULL,
    )
    s3 = {"bucket": "notes", "endpoint": endpoint, "region": "eu-central-1", "key": "backup", "secret": "s3cret"}
    s3 |= {"uri_style": "path", "authority": (place / "crt").read_text()}
    try:
        eventually(lambda: "not reached" not in bucket.looked(s3, "db-1", 7)[0])
        yield s3
    finally:
        process.terminate()
        process.wait()


def test_a_storage_takes_what_is_signed(storage: dict[str, Any]) -> None:
    assert bucket.ask(storage, "GET", "", {"versioning": ""})[0] == 200
    assert bucket.ask({**storage, "secret": "another"}, "GET", "", {"versioning": ""})[0] == 403


def test_a_storage_that_lets_its_writer_delete_is_told(storage: dict[str, Any]) -> None:
    _, wrong = bucket.looked(storage, "db-1", 7)
    assert len(wrong) == 3
    assert "the host's key may remove versions" in wrong[2]
