"""The status line of a terminal, redrawn in place, and the thread that redraws it.

It is written with `os.write`, past Python's buffers: Ansible forks its workers at any moment, and no lock of a buffer
may be held then. It stands one line below the cursor, so that what others write (a warning) does not run into it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ..terminal import visible

TICK_SECONDS = 1.0
CLEAR_BELOW = "\x1b[J"
UP = "\x1b[1A\r"


@dataclass
class StatusLine:
    """One line of a terminal, below the cursor. Does nothing where `enabled` is false."""

    descriptor: int
    enabled: bool
    columns: Callable[[], int]
    _drawn: bool = False

    def draw(self, text: str) -> None:
        """Show `text`, cut to the terminal's width, in place of what was shown."""
        if self.enabled:
            cut = visible(text.expandtabs(1).replace("\n", " "))[: max(1, self.columns() - 1)]
            self._write(f"\r{CLEAR_BELOW}\n{cut}{UP}")
            self._drawn = True

    def clear(self) -> None:
        """Remove it, so that lines can be written."""
        if self._drawn:
            self._drawn = False
            self._write(f"\r{CLEAR_BELOW}")

    def _write(self, text: str) -> None:
        try:
            os.write(self.descriptor, text.encode("utf-8", errors="replace"))
        except OSError:
            self.enabled = False  # the terminal is gone


class Ticker:
    """Calls `tick` once a second, in a thread that never keeps the process alive."""

    def __init__(self, tick: Callable[[], None], seconds: float = TICK_SECONDS) -> None:
        self._tick, self._seconds = tick, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flotilla-output", daemon=True)

    def start(self) -> None:
        """Begin to tick; safe to call again."""
        if not self._thread.ident:
            self._thread.start()

    def stop(self) -> None:
        """Tick no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._seconds):
            self._tick()
