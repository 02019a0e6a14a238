"""The monitor window, with a clock and an edge of the tests' own."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from flotilla.traffic import SAMPLE, AccessLog, Limits, Request
from flotilla.window import Watch, Window, WindowError

WINDOW = Window(10, Limits(failure_ratio=0.05, p95_seconds=0.5))


@dataclass
class World:
    """A clock, a log that clients write to while time passes, and an edge that answers probes."""

    log: Path
    rate: float = 0.0
    status: Callable[[float], int] = lambda now: 200
    answer: Callable[[str], Request] = lambda path: Request(200, 0.01)
    sick: Callable[[float], str] = lambda now: ""
    probe_seconds: float = 0.01
    now: float = 0.0
    asked: list[str] = field(default_factory=list)
    owed: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.owed += seconds * self.rate
        with self.log.open("a") as file:
            while self.owed >= 1:
                self.owed -= 1
                line = {"app": "notes", "release": "r2", "status": self.status(self.now), "request_seconds": 0.02}
                file.write(json.dumps(line) + "\n")

    def ask(self, path: str) -> Request:
        self.asked.append(path)
        self.now += self.probe_seconds
        return self.answer(path)

    def watch(self) -> Watch:
        return Watch(
            AccessLog.at_end(self.log),
            "notes",
            "r2",
            "notes-router-green",
            self.ask,
            ["/ready", "/api", "/"],
            lambda: self.sick(self.now),
            clock=lambda: self.now,
            sleep=self.sleep,
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    log = tmp_path / "access.log"
    log.touch()
    return World(log)


def test_real_traffic_is_enough(world: World) -> None:
    world.rate = 50
    seen = world.watch().over(WINDOW)
    assert world.now == pytest.approx(10, abs=0.5)
    assert seen.requests == pytest.approx(500, abs=20)
    assert seen.probes <= 1


def test_probes_stand_in_for_clients(world: World) -> None:
    seen = world.watch().over(WINDOW)
    assert (seen.requests, seen.probes) == (SAMPLE, SAMPLE)
    assert world.asked[:4] == ["/ready", "/api", "/", "/ready"]
    assert world.now == pytest.approx(10, abs=0.5)


def test_probes_are_spread_over_the_window(world: World) -> None:
    times = []

    def answer(path: str) -> Request:
        times.append(world.now)
        return Request(200, 0.01)

    world.answer = answer
    world.watch().over(WINDOW)
    assert len([moment for moment in times if moment < 5]) == pytest.approx(SAMPLE / 2, abs=2)


def test_a_release_that_fails_later_is_given_up_at_once(world: World) -> None:
    world.rate = 50
    world.status = lambda now: 500 if now > 4 else 200
    with pytest.raises(WindowError, match="requests failed"):
        world.watch().over(WINDOW)
    assert 4 < world.now < 5.5


def test_probes_alone_find_a_failing_release(world: World) -> None:
    world.answer = lambda path: Request(500 if path == "/" else 200, 0.01)
    with pytest.raises(WindowError, match="3 x 500"):
        world.watch().over(WINDOW)
    assert world.now < 6


def test_a_release_that_does_not_answer_at_all_is_found(world: World) -> None:
    world.probe_seconds = 5.0
    world.answer = lambda path: Request(0, None)
    with pytest.raises(WindowError, match="3 x no answer"):
        world.watch().over(WINDOW)
    assert world.now < 20


def test_a_restart_ends_the_window(world: World) -> None:
    world.rate = 50
    world.sick = lambda now: "api: restarted 1 times" if now > 3 else ""
    with pytest.raises(WindowError, match="api: restarted 1 times"):
        world.watch().over(WINDOW)
    assert world.now < 4.5


def test_a_slow_release_is_found_by_probes(world: World) -> None:
    world.answer = lambda path: Request(200, 0.8)
    with pytest.raises(WindowError, match="800 ms"):
        world.watch().over(WINDOW)


def test_slow_probes_do_not_stretch_the_window_for_ever(world: World) -> None:
    world.probe_seconds = 4.9
    world.watch().over(Window(1, Limits(0.05, 0)))
    assert world.now < 25


def test_a_short_window_has_a_full_sample_too(world: World) -> None:
    assert world.watch().over(Window(0.5, WINDOW.limits)).requests == SAMPLE
