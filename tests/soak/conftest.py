"""Long runs are made in a lab like that of the end-to-end tests, one for all tests of a file."""

from tests.e2e.conftest import laboratory, production

__all__ = ["laboratory", "production"]
