"""The edge and the app of the scenario `default`, here behind the web application firewall."""

from roles.nginx.molecule.default.tests.conftest import app, edge

__all__ = ["app", "edge"]
