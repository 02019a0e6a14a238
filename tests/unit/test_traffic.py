"""What the edge's log says of a release, and the verdict on it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from flotilla.traffic import AccessLog, Limits, Request, Traffic, judge, of_release
from hypothesis import given
from hypothesis import strategies as st

TARGET = "notes-router-green"
LIMITS = Limits(failure_ratio=0.01, p95_seconds=0.5)


def entry(**changes: Any) -> str:
    """A line as roles/nginx writes it."""
    line = {
        "msec": 1.0,
        "status": 200,
        "request_seconds": 0.02,
        "app": "notes",
        "target": TARGET,
        "release": "r2",
        "probe": "",
    }
    return json.dumps({**line, **changes})


def statuses(*lines: str) -> list[int]:
    return [request.status for request in of_release(lines, "notes", "r2", TARGET)]


def test_requests_that_the_release_answered_count() -> None:
    assert statuses(entry(), entry(status=404), entry(status=500)) == [200, 404, 500]


@pytest.mark.parametrize(
    "change",
    [{"release": "r1"}, {"app": "other"}, {"probe": "1"}, {"release": "r1", "target": "notes-router-blue"}],
)
def test_those_of_others_do_not(change: dict[str, Any]) -> None:
    assert statuses(entry(**change)) == []


def test_a_request_that_found_no_router_counts_against_the_release_it_was_meant_for() -> None:
    assert statuses(entry(release="", status=502)) == [502]
    assert statuses(entry(release="", status=502, target="notes-router-blue")) == []


def test_what_the_edge_answered_itself_does_not_count() -> None:
    assert statuses(entry(release="", status=429), entry(release="", status=413)) == []


def test_a_websockets_time_is_no_latency() -> None:
    (request,) = of_release([entry(status=101, request_seconds=600.0)], "notes", "r2", TARGET)
    assert request.seconds is None


@pytest.mark.parametrize("line", ["", "not json", "[]", '"text"', '{"app": "notes"'])
def test_a_broken_line_is_passed_over(line: str) -> None:
    assert statuses(line, entry()) == [200]


def traffic(good: int, bad: int, seconds: float = 0.02) -> Traffic:
    counted = Traffic()
    counted.add([Request(200, seconds)] * good + [Request(500, seconds)] * bad)
    return counted


@pytest.mark.parametrize(("good", "bad", "verdict"), [(100, 0, True), (99, 1, True), (98, 2, False), (0, 1, False)])
def test_the_share_of_failures_decides(good: int, bad: int, verdict: bool) -> None:
    assert (judge(traffic(good, bad), LIMITS, over=True) == "") is verdict


def test_a_stray_failure_does_not_end_a_window_early() -> None:
    assert judge(traffic(1, 2), LIMITS, over=False) == ""
    assert "3 of 4 requests failed (3 x 500)" in judge(traffic(1, 3), LIMITS, over=False)


def test_a_slow_release_is_told_at_the_end() -> None:
    slow = traffic(100, 0, seconds=0.6)
    assert judge(slow, LIMITS, over=False) == ""
    assert "600 ms; environment_p95_ms allows 500 ms" in judge(slow, LIMITS, over=True)
    assert judge(slow, Limits(0.01, 0), over=True) == ""


def test_a_few_slow_requests_are_not_a_slow_release() -> None:
    counted = traffic(95, 0)
    counted.add([Request(200, 5.0)] * 5)
    assert judge(counted, LIMITS, over=True) == ""
    counted.add([Request(200, 5.0)])
    assert judge(counted, LIMITS, over=True) != ""


def test_no_traffic_is_no_failure() -> None:
    assert judge(Traffic(), LIMITS, over=True) == ""


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300))
def test_the_percentile_is_a_value_that_95_percent_do_not_exceed(seconds: list[float]) -> None:
    counted = Traffic()
    counted.add(Request(200, value) for value in seconds)
    p95 = counted.p95_seconds
    assert p95 in seconds
    assert sum(value <= p95 for value in seconds) >= 0.95 * len(seconds)
    assert sum(value < p95 for value in seconds) < 0.95 * len(seconds)


def test_a_summary_counts_probes_among_the_requests() -> None:
    counted = traffic(3, 1)
    counted.add_probe(Request(0, None))
    assert counted.summary() == {"requests": 5, "probes": 1, "failed": 2, "p95_ms": 20}
    assert counted.statuses == Counter({200: 3, 500: 1, 0: 1})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text("old\n")
    return path


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_the_log_is_read_from_now_on(log: Path) -> None:
    reader = AccessLog.at_end(log)
    append(log, "one\ntwo\n")
    assert reader.lines() == ["one", "two"]
    assert reader.lines() == []


def test_half_a_line_waits_for_its_end(log: Path) -> None:
    reader = AccessLog.at_end(log)
    append(log, "one\ntw")
    assert reader.lines() == ["one"]
    append(log, "o\n")
    assert reader.lines() == ["two"]


def test_a_rotation_loses_no_line(log: Path) -> None:
    reader = AccessLog.at_end(log)
    append(log, "one\n")
    rotated = log.with_name("access.log.1")
    log.rename(rotated)
    append(rotated, "two\n")
    assert reader.lines() == ["one", "two"]
    # Nginx writes on to the renamed file until it is told to open the new one.
    append(rotated, "three\n")
    append(log, "four\n")
    assert reader.lines() == ["three", "four"]
    append(log, "five\n")
    assert reader.lines() == ["five"]


def test_a_log_that_was_cut_off_is_read_from_its_beginning(log: Path) -> None:
    reader = AccessLog.at_end(log)
    log.write_text("x\n")
    assert reader.lines() == ["x"]


def test_a_log_that_does_not_exist_yet_is_read_from_its_beginning(tmp_path: Path) -> None:
    reader = AccessLog.at_end(tmp_path / "access.log")
    assert reader.lines() == []
    append(tmp_path / "access.log", "one\n")
    assert reader.lines() == ["one"]


def test_a_place_is_found_again(log: Path) -> None:
    reader = AccessLog.at_end(log)
    append(log, "one\nhal")
    reader.lines()
    append(log, "f\n")
    assert AccessLog.at(log, reader.place()).lines() == ["half"]
