"""Filters that check and shape what the edge and the routers are told, before it becomes Nginx configuration.

Nginx has no quoting that is safe for every character, so nothing is escaped here: each value must match
the small alphabet of its kind, and what does not match is refused with the variable to correct.
"""

from __future__ import annotations

import ipaddress
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleFilterError

sys.path.append(str(Path(__file__).resolve().parents[1] / "module_utils"))
from flotilla.addresses import upstream_variables
from flotilla.frontage import PATH as REQUEST_PATH
from flotilla.problem import did_you_mean

DAY_SECONDS = 86_400
# What the edge lets through unless the app says otherwise.
UPLOAD_LIMIT_MB = 25
# Of the disk, for the bodies that a router collects at a time.
UPLOADS_MB, LEAST_UPLOADS = 1024, 4
APP_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")
# A DNS name, or a wildcard for one label (RFC 6125, 6.4.3).
DOMAIN = re.compile(r"(?:\*\.)?(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# The unreserved characters of RFC 3986 in segments; neither `.` nor `..` alone, nor an empty segment.
PATH = re.compile(r"/(?:(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+(?:/|$))*")
SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
ORIGIN = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]{1,5})?")
HEADER_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
# One of OWASP's banners is called $wsep.
BANNER_NAME = re.compile(r"[$A-Za-z][A-Za-z0-9-]*")
# Printable ASCII without the characters that end or expand a double-quoted Nginx parameter.
HEADER_VALUE = re.compile(r'[^"\\$\x00-\x1f\x7f-\U0010ffff]*')


@dataclass(frozen=True)
class Route:
    """One route of a router. `exact` is the path without its last slash ("" for /), `prefix` the path with it.

    rate: what one client may send, as Nginx writes it ("5r/s", "10r/m"); "" for no limit of its own.
    rate_burst: requests above it that are still answered.  retry_after: seconds until the rate allows one more.
    upload_limit_mb: largest request body in MiB; 0 is the app's limit.
    """

    number: int
    path: str
    exact: str
    prefix: str
    service: str
    port: int
    strip_prefix: bool
    cors_origins: tuple[str, ...]
    cors_credentials: bool
    cache_seconds: int | None
    timeout_seconds: int
    websocket: bool
    spa: bool
    rate: str
    rate_burst: int
    retry_after: int
    upload_limit_mb: int
    clear_site_data: bool


@dataclass(frozen=True)
class Server:
    """One app as the edge serves it.

    `identifier` is its name as part of an Nginx variable; `by_address` says that some of `names` are addresses.
    """

    name: str
    identifier: str
    names: tuple[str, ...]
    by_address: bool
    upload_limit_mb: int
    rate_limit_rps: int
    rate_limit_burst: int
    headers: tuple[tuple[str, str], ...]
    readiness_path: str
    waf_excluded_rules: tuple[int, ...]
    waf_excluded_paths: tuple[str, ...]


class Reader:
    """Reads typed keys of one mapping and collects every problem, each under its full name."""

    def __init__(self, where: str, value: Mapping[str, Any], problems: list[str]) -> None:
        self.where = where
        self.value = value
        self.problems = problems

    def refuse(self, key: str, what: str) -> None:
        self.problems.append(f"{self.where}.{key}: {what}")

    def known(self, keys: Iterable[str]) -> None:
        names = list(keys)
        for key in self.value:
            if key not in names:
                self.refuse(str(key), f"there is no such key{did_you_mean(str(key), names)}")

    def text(self, key: str, pattern: re.Pattern[str], kind: str) -> str:
        value = self.value.get(key)
        if value is None:
            self.refuse(key, f"is missing: {kind}")
        elif not isinstance(value, str) or not pattern.fullmatch(value):
            self.refuse(key, f"{value!r} is not {kind}")
        else:
            return str(value)
        return ""

    def texts(self, key: str, accept: Callable[[str], bool], kind: str) -> tuple[str, ...]:
        value = self.value.get(key) or ()
        if isinstance(value, str) or not isinstance(value, Sequence):
            self.refuse(key, f"{value!r} is not a list")
            return ()
        accepted = []
        for index, item in enumerate(value):
            if isinstance(item, str) and accept(item):
                accepted.append(str(item))
            else:
                self.refuse(f"{key}[{index}]", f"{item!r} is not {kind}")
        return tuple(accepted)

    def number(self, key: str, default: int, low: int, high: int) -> int:
        value = self.value.get(key, default)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self.refuse(key, f"{value!r} is not a whole number from {low} to {high}")
            return default
        return int(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.value.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, f"{value!r} is neither true nor false")
            return default
        return value


ROUTE_KEYS = (
    "path",
    "service",
    "port",
    "strip_prefix",
    "cors_origins",
    "cors_credentials",
    "cache_seconds",
    "timeout_seconds",
    "websocket",
    "spa",
    "rate_limit",
    "upload_limit_mb",
    "clear_site_data",
)
RATE_KEYS = ("requests_per_second", "requests_per_minute", "burst")


def read_rate(reader: Reader) -> tuple[str, int, int]:
    """A route's own rate, its burst, and the seconds until the rate allows one more request."""
    value = reader.value.get("rate_limit")
    if value is None:
        return "", 0, 0
    if not isinstance(value, Mapping):
        reader.refuse("rate_limit", f"{value!r} is not a mapping with requests_per_second and burst")
        return "", 0, 0
    limit = Reader(f"{reader.where}.rate_limit", value, reader.problems)
    limit.known(RATE_KEYS)
    given = [key for key in RATE_KEYS[:2] if value.get(key) is not None]
    if len(given) != 1:
        reader.refuse("rate_limit", "needs one of requests_per_second and requests_per_minute, and not both")
        return "", 0, 0
    seconds, unit = (1, "s") if given[0] == "requests_per_second" else (60, "m")
    rate = limit.number(given[0], 1, 1, 100_000)
    return f"{rate}r/{unit}", limit.number("burst", 2 * rate, 0, 1_000_000), -(-seconds // rate)


def read_route(where: str, number: int, value: Mapping[str, Any], problems: list[str], upload_limit_mb: int) -> Route:
    """One route, checked; what is wrong goes to `problems` and a harmless value stands in for it."""
    reader = Reader(where, value, problems)
    reader.known(ROUTE_KEYS)
    path = reader.text(
        "path", PATH, "a path: it starts with / and holds letters, digits, and . _ ~ - between its slashes"
    )
    exact = path.rstrip("/")
    origins = reader.texts(
        "cors_origins",
        lambda origin: origin == "*" or ORIGIN.fullmatch(origin) is not None,
        'an origin such as "https://www.example.com" (scheme, host, optional port, no path), nor "*"',
    )
    credentials = reader.flag("cors_credentials", False)
    if "*" in origins and credentials:
        reader.refuse("cors_credentials", 'browsers refuse credentials with the origin "*": list the origins')
    strip_prefix = reader.flag("strip_prefix", False)
    cached = value.get("cache_seconds") is not None
    cache_seconds = reader.number("cache_seconds", 0, 0, 365 * DAY_SECONDS) if cached else None
    if value.get("port") is None:
        reader.refuse("port", "is missing: the port that the service listens on")
    rate, rate_burst, retry_after = read_rate(reader)
    upload = reader.number("upload_limit_mb", 1, 1, 1_048_576) if value.get("upload_limit_mb") is not None else 0
    if upload_limit_mb and upload > upload_limit_mb:
        reader.refuse(
            "upload_limit_mb",
            f"{upload} is more than the app's upload_limit_mb ({upload_limit_mb}), above which nothing gets past the"
            " edge: raise that too",
        )
    return Route(
        number=number,
        path=path,
        exact=exact,
        prefix=f"{exact}/",
        service=reader.text("service", SERVICE, "the name of a service of the app's Compose file"),
        port=reader.number("port", 0, 1, 65535) if value.get("port") is not None else 0,
        strip_prefix=strip_prefix and exact != "",
        cors_origins=origins,
        cors_credentials=credentials,
        cache_seconds=cache_seconds,
        timeout_seconds=reader.number("timeout_seconds", 60, 1, DAY_SECONDS),
        websocket=reader.flag("websocket", False),
        spa=reader.flag("spa", False),
        rate=rate,
        rate_burst=rate_burst,
        retry_after=retry_after,
        upload_limit_mb=upload,
        clear_site_data=reader.flag("clear_site_data", False),
    )


def read_routes(app: Mapping[str, Any], problems: list[str]) -> list[Route]:
    """The routes of one entry of `apps`, longest path first, so that a reader finds the winner first."""
    label = f"apps[{app.get('name', '?')}].routes"
    routes = app.get("routes")
    if isinstance(routes, str) or not isinstance(routes, Sequence) or not routes:
        problems.append(
            f"{label}: is missing or empty: give at least one route, such as {{path: /, service: web, port: 8080}}"
        )
        return []
    given = app.get("upload_limit_mb", UPLOAD_LIMIT_MB)
    upload_limit_mb = given if isinstance(given, int) else 0
    found: dict[str, Route] = {}
    for number, value in enumerate(routes):
        where = f"{label}[{number}]"
        if not isinstance(value, Mapping):
            problems.append(f"{where}: {value!r} is not a mapping with path, service and port")
            continue
        route = read_route(where, number, value, problems, upload_limit_mb)
        if route.path and route.exact in found:
            problems.append(f"{where}.path: {route.path} is the path of {label}[{found[route.exact].number}] too")
        found.setdefault(route.exact, route)
    return sorted(found.values(), key=lambda route: (-len(route.exact), route.exact))


def flotilla_routes(app: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The checked routes of one entry of `apps`, as `router.conf.j2` needs them, longest path first.

    Raises AnsibleFilterError with every problem of the routes, the headers and the firewall's exceptions, one a line,
    each named `apps[<name>].routes[<index>].<key>` and the like.
    """
    problems: list[str] = []
    routes = read_routes(app, problems)
    read_guards(app, problems)
    refuse(problems)
    return [asdict(route) for route in routes]


def flotilla_edge_apps(apps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What the role `nginx` has to know of `apps`: its variable `nginx_apps`. Raises like `flotilla_routes`."""
    shaped = []
    for app in apps:
        limit = app.get("rate_limit") or {}
        entry = {
            "name": app.get("name"),
            "domains": app.get("domains"),
            "upload_limit_mb": app.get("upload_limit_mb"),
            "rate_limit_rps": limit.get("requests_per_second"),
            "rate_limit_burst": limit.get("burst"),
            "security_headers": app.get("security_headers"),
            "readiness_path": (app.get("readiness") or {}).get("path"),
            "waf_excluded_rules": (app.get("waf") or {}).get("excluded_rules"),
            "waf_excluded_paths": (app.get("waf") or {}).get("excluded_paths"),
        }
        shaped.append({key: value for key, value in entry.items() if value is not None})
    problems: list[str] = []
    read_servers("apps", shaped, {}, (), problems)
    refuse(problems)
    return shaped


SERVER_KEYS = (
    *("name", "domains", "upload_limit_mb", "rate_limit_rps", "rate_limit_burst", "security_headers"),
    *("readiness_path", "waf_excluded_rules", "waf_excluded_paths"),
)
# Ids of the Core Rule Set; https://coreruleset.org/docs/2-how-crs-works/2-1-anomaly_scoring/ judges in 949 and 959.
CORE_RULES = range(900_000, 1_000_000)


def is_address(name: str) -> bool:
    """Whether `name` is an IPv4 or IPv6 address, without a zone (`%eth0`), which may be any text."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return "%" not in name


def is_name(name: str) -> bool:
    """Whether `name` can stand in `server_name` and in a certificate."""
    return is_address(name) or (len(name) <= 253 and DOMAIN.fullmatch(name) is not None)


def read_headers(where: str, defaults: Mapping[str, str], own: Any, problems: list[str]) -> tuple[tuple[str, str], ...]:
    """The security headers of one app: the defaults, overridden by its own; an empty value removes one.

    Each is (name, value). Strict-Transport-Security is not among them: it is the environment's.
    """
    if not isinstance(own, Mapping):
        problems.append(f"{where}: {own!r} is not a mapping of header names to values")
        own = {}
    canonical = {name.lower(): (name, value) for name, value in defaults.items()}
    canonical.update({str(name).lower(): (str(name), value) for name, value in own.items()})
    headers = []
    for name, value in canonical.values():
        if not HEADER_NAME.fullmatch(name):
            problems.append(f"{where}: {name!r} is not a header's name")
        elif not isinstance(value, str) or not HEADER_VALUE.fullmatch(value):
            problems.append(f'{where}.{name}: {value!r} is not one line of ASCII without " \\ and $')
        elif value:
            headers.append((name, str(value)))
    return tuple(headers)


def read_rules(reader: Reader, key: str) -> tuple[int, ...]:
    """The rules of the Core Rule Set that an app does without."""
    value = reader.value.get(key) or ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        reader.refuse(key, f"{value!r} is not a list")
        return ()
    for index, rule in enumerate(value):
        if isinstance(rule, bool) or not isinstance(rule, int) or rule not in CORE_RULES:
            reader.refuse(f"{key}[{index}]", f"{rule!r} is not the id of a rule, such as 942100")
    return tuple(rule for rule in value if rule in CORE_RULES)


def read_excluded_paths(reader: Reader, key: str) -> tuple[str, ...]:
    """The paths that the web application firewall does not look at, each with its last slash."""
    paths = reader.texts(
        key,
        lambda path: path != "/" and PATH.fullmatch(path) is not None,
        "a path below /, such as /api/import",
    )
    return tuple(path.rstrip("/") + "/" for path in paths)


def read_guards(app: Mapping[str, Any], problems: list[str]) -> None:
    """What the edge would refuse of an entry of `apps` later, said before a host is touched."""
    label = f"apps[{app.get('name', '?')}]"
    read_headers(f"{label}.security_headers", {}, app.get("security_headers") or {}, problems)
    waf = app.get("waf") or {}
    if isinstance(waf, Mapping):
        reader = Reader(f"{label}.waf", waf, problems)
        read_rules(reader, "excluded_rules")
        read_excluded_paths(reader, "excluded_paths")


def read_servers(
    variable: str,
    apps: Sequence[Mapping[str, Any]],
    headers: Mapping[str, str],
    extra_names: Sequence[str],
    problems: list[str],
) -> list[Server]:
    """One server per app. `extra_names` go to the first app. No name may serve two apps."""
    owners: dict[str, str] = {}
    servers: list[Server] = []
    for index, app in enumerate(apps):
        reader = Reader(f"{variable}[{app.get('name', index)}]", app, problems)
        reader.known(SERVER_KEYS)
        name = reader.text("name", APP_NAME, "a name: a small letter, then up to 30 small letters, digits and -")
        domains = reader.texts("domains", is_name, "a domain in small letters, nor an address")
        if not domains and not app.get("domains"):
            reader.refuse("domains", "is missing or empty: the domains that the app answers to")
        for position, domain in enumerate(domains):
            if domain in owners:
                reader.refuse(f"domains[{position}]", f"{domain} is a domain of {owners[domain]} already")
            owners[domain] = name
        path = str(app.get("readiness_path", "/"))
        if not REQUEST_PATH.fullmatch(path):
            reader.refuse("readiness_path", f"{path!r} is not a path without spaces, quotes, %, $, # and \\")
        rate = reader.number("rate_limit_rps", 50, 0, 100_000)
        servers.append(
            Server(
                name=name,
                identifier=name.replace("-", "_"),
                names=domains,
                by_address=any(map(is_address, domains)),
                upload_limit_mb=reader.number("upload_limit_mb", UPLOAD_LIMIT_MB, 0, 1_048_576),
                rate_limit_rps=rate,
                rate_limit_burst=reader.number("rate_limit_burst", 2 * rate, 0, 1_000_000),
                headers=read_headers(
                    f"{reader.where}.security_headers", headers, app.get("security_headers") or {}, problems
                ),
                readiness_path=path,
                waf_excluded_rules=read_rules(reader, "waf_excluded_rules"),
                waf_excluded_paths=read_excluded_paths(reader, "waf_excluded_paths"),
            )
        )
    if len({server.identifier for server in servers}) < len(servers):
        problems.append(f"{variable}: two apps have the same name")
    for index, extra in enumerate(extra_names):
        if not is_name(extra):
            problems.append(f"nginx_extra_names[{index}]: {extra!r} is not a domain in small letters, nor an address")
    if servers:
        names = servers[0].names + tuple(extra for extra in dict.fromkeys(extra_names) if extra not in owners)
        servers[0] = replace(servers[0], names=names, by_address=any(map(is_address, names)))
    return servers


def flotilla_edge_servers(
    apps: Sequence[Mapping[str, Any]],
    headers: Mapping[str, str] | None = None,
    extra_names: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """`nginx_apps`, checked, as the template of the edge needs it. Raises AnsibleFilterError with every problem."""
    problems: list[str] = []
    servers = read_servers("nginx_apps", apps, headers or {}, extra_names, problems)
    refuse(problems)
    return [asdict(server) for server in servers]


def flotilla_headers(headers: Mapping[str, str], variable: str) -> list[dict[str, str]]:
    """Headers of answers, checked: a list of {name, value} without the empty ones. Errors name `variable`."""
    problems: list[str] = []
    checked = read_headers(variable, {}, headers, problems)
    refuse(problems)
    return [{"name": name, "value": value} for name, value in checked]


def flotilla_hidden_headers(names: Sequence[str], shown: Sequence[str] = ()) -> list[str]:
    """Names of headers that no client gets: `names` without `shown`, whatever their case; checked."""
    kept = {name.lower() for name in shown}
    found = [str(name) for name in dict.fromkeys(names) if str(name).lower() not in kept]
    refuse(f"{name!r} is not a header's name" for name in found if not BANNER_NAME.fullmatch(name))
    return found


def flotilla_readiness_pattern(app: Mapping[str, Any]) -> str:
    """A regular expression for the requests that ask for the app's readiness, whatever their query."""
    path = str((app.get("readiness") or {}).get("path", "/")).partition("?")[0]
    refuse(
        [f"apps[{app.get('name', '?')}].readiness.path: {path!r} is not a path without spaces, quotes, %, $, # and \\"]
        if not REQUEST_PATH.fullmatch(path)
        else []
    )
    return f"^{re.escape(path)}(?:[?]|$)"


def flotilla_upstreams(app: Mapping[str, Any]) -> dict[str, str]:
    """Service on a route of the app → the router's environment variable with its address or name."""
    return upstream_variables(route["service"] for route in app.get("routes") or [])


def flotilla_tls_names(servers: Sequence[Mapping[str, Any]]) -> list[str]:
    """The subjectAltName entries for the names of `flotilla_edge_servers`: `DNS:example.com`, `IP:127.0.0.1`."""
    names = dict.fromkeys(name for server in servers for name in server["names"])
    return [f"IP:{ipaddress.ip_address(name)}" if is_address(name) else f"DNS:{name}" for name in names]


def flotilla_server_name(name: str) -> str:
    """A domain or address as `server_name` wants it: an IPv6 address in brackets."""
    return f"[{name}]" if ":" in name else name


def flotilla_addresses(networks: Sequence[str], variable: str) -> list[str]:
    """Addresses and networks in CIDR notation, checked. `variable` is named in the error."""
    problems: list[str] = []
    for index, network in enumerate(networks):
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            problems.append(f"{variable}[{index}]: {error}")
        if "%" in str(network):
            problems.append(f"{variable}[{index}]: {network!r} has a zone; leave out what stands from % on")
    refuse(problems)
    return [str(network) for network in networks]


def refuse(problems: Iterable[str]) -> None:
    """Raise for all problems at once, when there are any."""
    lines = list(dict.fromkeys(problems))
    if lines:
        raise AnsibleFilterError("\n".join(lines))


def flotilla_uploads_at_once(app: Mapping[str, Any]) -> int:
    """How many large bodies a router collects at a time: as many as fit into a gigabyte of disk, and 4 at least."""
    return max(UPLOADS_MB // int(app.get("upload_limit_mb", UPLOAD_LIMIT_MB)), LEAST_UPLOADS)


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "flotilla_edge_apps": flotilla_edge_apps,
            "flotilla_edge_servers": flotilla_edge_servers,
            "flotilla_addresses": flotilla_addresses,
            "flotilla_headers": flotilla_headers,
            "flotilla_hidden_headers": flotilla_hidden_headers,
            "flotilla_readiness_pattern": flotilla_readiness_pattern,
            "flotilla_routes": flotilla_routes,
            "flotilla_server_name": flotilla_server_name,
            "flotilla_tls_names": flotilla_tls_names,
            "flotilla_uploads_at_once": flotilla_uploads_at_once,
            "flotilla_upstreams": flotilla_upstreams,
        }
