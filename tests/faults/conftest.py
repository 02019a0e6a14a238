"""Faults are injected into a lab like that of the end-to-end tests, one for all files."""

import pytest

from tests.e2e.conftest import served

__all__ = ["served"]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """A run takes hours: what failed is told when it fails."""
    if report.failed:
        print(f"\n{report.nodeid} ({report.when})\n{report.longreprtext[-4000:]}", flush=True)
