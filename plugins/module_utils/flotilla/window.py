"""The monitor window: a committed release is watched under real traffic, on its host, for a stated time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .traffic import SAMPLE, AccessLog, Limits, Request, Traffic, judge, of_release

TICK_SECONDS = 0.25
# How long the probes that are missing at the end of a short window may take.
TOP_UP_SECONDS = 10.0
# How often the engine is asked about the containers.
LOOK_SECONDS = 1.0


class WindowError(Exception):
    """The release did not live up to its window. The message says what was seen."""


@dataclass(frozen=True)
class Window:
    """How long a release is watched, and what is tolerated meanwhile."""

    seconds: float
    limits: Limits


@dataclass
class Watch:
    """A watch over one release.

    log: read from the switch on.  app, release, target: whose lines count, see `traffic.of_release`.
    ask: sends a GET for a path through the edge.  paths: what is asked when clients ask too little.
    ailing: what is wrong with the release's containers, or nothing.
    """

    log: AccessLog
    app: str
    release: str
    target: str
    ask: Callable[[str], Request]
    paths: Sequence[str]
    ailing: Callable[[], str]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    traffic: Traffic = field(default_factory=Traffic)

    def over(self, window: Window) -> Traffic:
        """Watch for the whole window; raise `WindowError` as soon as it is plain that the release must go."""
        began = self.clock()
        looked = began - LOOK_SECONDS
        while True:
            now = self.clock()
            elapsed = now - began
            over = elapsed >= window.seconds
            self.traffic.add(of_release(self.log.lines(), self.app, self.release, self.target))
            if over or now - looked >= LOOK_SECONDS:
                looked = now
                if wrong := self.ailing():
                    raise WindowError(wrong)
            if over:
                self._top_up(SAMPLE, window, now + max(window.seconds, TOP_UP_SECONDS))
            elif self.traffic.requests < SAMPLE * elapsed / window.seconds:
                self._top_up(self.traffic.requests + 1, window, now + TOP_UP_SECONDS)
            self._judge(window, over=over)
            if over:
                return self.traffic
            self.sleep(min(TICK_SECONDS, window.seconds / SAMPLE, max(0.0, began + window.seconds - self.clock())))

    def _judge(self, window: Window, *, over: bool) -> None:
        if wrong := judge(self.traffic, window.limits, over=over):
            raise WindowError(wrong)

    def _top_up(self, wanted: int, window: Window, deadline: float) -> None:
        """Ask until there are `wanted` requests; `deadline` is a value of the clock."""
        while self.traffic.requests < wanted and self.clock() < deadline:
            self.traffic.add_probe(self.ask(self.paths[self.traffic.probes % len(self.paths)]))
            self._judge(window, over=False)
