"""The router of a colour: a small Nginx with the routes of its release."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..addresses import upstream_variables
from .hardening import SCRATCH
from .model import COLOUR, HOST, RELEASE, SERVICE_ADDRESS, Context


def router_service(context: Context, addresses: Mapping[str, int]) -> dict[str, Any]:
    """The router's definition but for its image, networks and labels.

    addresses: routed service → number of its fixed address; the others are reached by name.

    Its configuration, `releases/<id>/router.conf`, is a complete nginx.conf that the image's envsubst
    step renders with the variables below. Port 8080 takes the traffic; 8081, the health check's, listens
    on the container's loopback only. Large uploads are buffered in the container's /tmp, a volume
    without a name and so on disk, which goes with the container.
    """
    check: dict[str, Any] = {
        "test": ["CMD", "curl", "-fsS", "-o", "/dev/null", "--max-time", "2", "http://127.0.0.1:8081/"],
        "interval": "15s",
        "timeout": "3s",
        "retries": 3,
        "start_period": "30s",
        "start_interval": "200ms",
    }
    return {
        "command": ["nginx", "-e", "stderr", "-c", "/tmp/router.conf"],
        "user": "101:101",
        "environment": {
            "NGINX_ENVSUBST_FILTER": "^FLOTILLA_",
            "NGINX_ENVSUBST_OUTPUT_DIR": "/tmp",
            "FLOTILLA_RELEASE": RELEASE,
            "FLOTILLA_COLOUR": COLOUR,
            "FLOTILLA_HOST": HOST,
            **{
                variable: SERVICE_ADDRESS.format(addresses[service]) if service in addresses else service
                for service, variable in upstream_variables(route.service for route in context.routes).items()
            },
        },
        "volumes": [
            {
                "type": "bind",
                "source": f"{context.base}/releases/{RELEASE}/router.conf",
                "target": "/etc/nginx/templates/router.conf.template",
                "read_only": True,
                "bind": {"create_host_path": False},
            },
            {"type": "volume", "target": SCRATCH},
        ],
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "restart": "unless-stopped",
        "stop_signal": "SIGQUIT",
        "stop_grace_period": f"{int(context.drain_seconds) + 5}s",
        "init": False,
        "deploy": {"resources": {"limits": {"cpus": "0.50", "memory": "67108864", "pids": 64}}},
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
        "healthcheck": check,
    }
