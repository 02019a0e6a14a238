"""Waiting for what a busy machine does later: how long does not matter, whether does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

# Ten times what an idle machine of two cores was ever seen to need for anything that a test waits for with this.
GENEROUS_SECONDS = 300.0
PAUSE_SECONDS = 0.3


def eventually(
    condition: Callable[[], Found | None],
    seconds: float = GENEROUS_SECONDS,
    why: str = "",
    pause: float = PAUSE_SECONDS,
) -> Found:
    """The first answer of `condition` that is true; it is asked once more when the time is over.

    why: what has not come to pass, for whoever reads that the test has failed. What `condition` raises is the test's.
    """
    end = time.monotonic() + seconds
    while True:
        last = time.monotonic() >= end
        answer = condition()
        if answer:
            return answer
        assert not last, f"not within {seconds:g} s: {why or 'what was waited for'}; last seen: {answer!r}"
        time.sleep(pause)
