"""A strict load generator: it never retries, and records every failure by itself.

As a library: `run(Plan(...))` in this process, or `BackgroundLoad(Plan(...))` in one of its own while a test
deploys. As a program: `python -m tests.e2e.load --help`.
"""

from .background import BackgroundLoad
from .plan import Kind, Mode, Plan, PlanError, Stream, Target
from .result import Failure, Latency, Reason, Result, Seen
from .runner import run

__all__ = [
    "BackgroundLoad",
    "Failure",
    "Kind",
    "Latency",
    "Mode",
    "Plan",
    "PlanError",
    "Reason",
    "Result",
    "Seen",
    "Stream",
    "Target",
    "run",
]
