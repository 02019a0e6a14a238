"""The balancer's client of the scenario `default`."""

from roles.haproxy.molecule.default.tests.conftest import edge

__all__ = ["edge"]
