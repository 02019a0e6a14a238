"""A run in a process of its own, beside whatever the test does meanwhile."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from .plan import Plan
from .result import Result

ROOT = Path(__file__).resolve().parents[3]
START_SECONDS = 60.0
MARGIN_SECONDS = 120.0


class BackgroundLoad:
    """`with BackgroundLoad(plan) as load: …; result = load.stop()`.

    Leaving the block ends the process in any case.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._directory = tempfile.TemporaryDirectory(prefix="load-")
        self._output = Path(self._directory.name) / "result.json"
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        plan = Path(self._directory.name) / "plan.json"
        plan.write_text(self._plan.to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "tests.e2e.load", "--plan", str(plan), "--json", str(self._output)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        # Said when the first request is due; empty if the program ended.
        line = self._process.stdout.readline()
        if line.strip() != "running":
            self._process.wait(START_SECONDS)
            raise RuntimeError(f"the load generator did not start, exit code {self._process.returncode}")
        return self

    def stop(self) -> Result:
        """End the run after the answers still due, and read its result."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.terminate()
        return self._result(self._plan.timeout)

    def wait(self) -> Result:
        """Wait for the run's own end, and read its result."""
        return self._result(self._plan.seconds + self._plan.timeout)

    def _result(self, seconds: float) -> Result:
        assert self._process is not None
        self._process.communicate(timeout=seconds + MARGIN_SECONDS)
        if not self._output.exists():
            raise RuntimeError(f"the load generator left no result, exit code {self._process.returncode}")
        return Result.from_json(self._output.read_text(encoding="utf-8"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._process is not None and self._process.stdout is not None:
            self._process.stdout.close()
        self._directory.cleanup()
