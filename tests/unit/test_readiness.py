"""The verdict on a colour, over what the engine says of its containers."""

from __future__ import annotations

from typing import Any

import pytest
from flotilla.engine import End
from flotilla.readiness import State, explain, judge, judge_container


def container(service: str = "api", **state: Any) -> dict[str, Any]:
    restarts = state.pop("restarts", 0)
    return {
        "Id": f"id-{service}",
        "RestartCount": restarts,
        "Config": {"Labels": {"com.docker.compose.service": service}},
        "State": {"Status": "running", "ExitCode": 0, "OOMKilled": False, **state},
    }


HEALTHY: dict[str, Any] = {"Health": {"Status": "healthy"}}


@pytest.mark.parametrize(
    ("inspected", "one_shot", "uptime", "expected"),
    [
        (container(**HEALTHY), False, 0, State.READY),
        (container(Health={"Status": "starting"}), False, 99, State.WAITING),
        (container(Health={"Status": "unhealthy"}), False, 0, State.FAILED),
        (container(), False, 2.9, State.WAITING),
        (container(), False, 3.0, State.READY),
        (container(restarts=1, **HEALTHY), False, 99, State.FAILED),
        (container(Status="restarting"), False, 0, State.WAITING),
        (container(Status="exited", ExitCode=0), False, 0, State.FAILED),
        (container(Status="exited", ExitCode=0), True, 0, State.READY),
        (container(Status="exited", ExitCode=1), True, 0, State.FAILED),
        (container(), True, 99, State.WAITING),
        (container(Status="created"), False, 0, State.WAITING),
        (container(Status="dead"), False, 0, State.FAILED),
        (container(OOMKilled=True, **HEALTHY), False, 99, State.FAILED),
    ],
)
def test_verdict_on_a_container(inspected: dict[str, Any], one_shot: bool, uptime: float, expected: State) -> None:
    state, _ = judge_container(inspected, one_shot=one_shot, uptime=uptime, stable_seconds=3)
    assert state is expected


def verdict(*containers: dict[str, Any], expected: tuple[str, ...]) -> State:
    return judge(list(containers), expected=expected, one_shots=(), uptimes={}, stable_seconds=3).state


def test_a_colour_waits_for_a_service_without_a_container() -> None:
    assert verdict(container(**HEALTHY), expected=("api", "ui")) is State.WAITING


def test_one_failed_service_fails_the_colour() -> None:
    bad = container("ui", Status="exited", ExitCode=3)
    assert verdict(container(**HEALTHY), bad, expected=("api", "ui")) is State.FAILED


def test_services_that_are_not_expected_do_not_count() -> None:
    assert verdict(container(**HEALTHY), container("worker", restarts=5), expected=("api",)) is State.READY


def test_every_replica_counts() -> None:
    assert verdict(container(**HEALTHY), container(Health={"Status": "starting"}), expected=("api",)) is State.WAITING


def test_an_explanation_shows_exit_code_memory_probe_ports_and_log() -> None:
    probe = {"ExitCode": 7, "Output": "connection\n refused"}
    text = explain(container(ExitCode=137, OOMKilled=True, Health={"Log": [probe]}), "one\ntwo\n", [3000])
    assert "exit code 137" in text
    assert "out of memory: yes" in text
    assert "listens on: 3000" in text
    assert "probe: exit 7: connection refused" in text
    assert text.endswith("log: two")


@pytest.mark.parametrize(
    ("ended", "says"),
    [
        (End(137, True), "api: running again, exit code 137, out of memory: yes, restarts: 1"),
        (End(3, False), "api: running again, exit code 3, out of memory: no, restarts: 1"),
        (None, "api: running, how it ended: forgotten, restarts: 1"),
    ],
)
def test_an_explanation_of_a_restarted_container_tells_of_its_end(ended: End | None, says: str) -> None:
    assert explain(container(restarts=1), "", [], ended).startswith(says)
