"""Access policy: Host, Origin and token of a request are checked before anything else.

A server on a laptop can be reached by every page that its owner has open in a browser. Such a page can send requests to
127.0.0.1, which carry its Origin; if it has pointed a host name of its own there (DNS rebinding), the Host shows that.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.requests import cookie_parser

from headstart.core.errors import OptionError
from headstart.core.text import quoted
from headstart.serving.problems import Problem

COOKIE = "headstart-token"
MIN_TOKEN = 16
HEALTH = (
    "/healthz",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
)  # for probes, which know no token and say nothing of the models
_READING = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Who may ask.

    Attributes:
        token: Token that each request must send; empty for none.
        hosts: Host names of the server, in addition to localhost and IP addresses.
        origins: Origins whose pages may send requests, such as ``https://example.org``.
    """

    token: str = ""
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if self.token and (len(self.token) < MIN_TOKEN or not self.token.isascii() or not self.token.isprintable()):
            raise OptionError(
                f"The token has {len(self.token)} characters; expected {MIN_TOKEN} or more, of printable ASCII.",
                'Make one: python -c "import secrets; print(secrets.token_urlsafe())"',
            )
        for origin in self.origins:
            if not _is_origin(origin):
                raise OptionError(f"{quoted(origin)} is not an origin.", "Expected one such as https://example.org.")

    def check_host(self, headers: Mapping[str, str]) -> None:
        """Refuse a request for another host name.

        Raises:
            Problem: With the status 421.
        """
        host = headers.get("host", "")
        if not self._is_ours(host):
            raise Problem(
                421,
                f"{quoted(host[:200])} is not a host name of this server.",
                "Use its address, or start the server with --allow-host NAME.",
            )

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Refuse a request that is not allowed.

        Args:
            method: Of the request.
            path: Of the request.
            headers: Of the request, names in lower case.

        Raises:
            Problem: With the status 403 or 401.
        """
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and method not in _READING and not self._may_write(origin, host):
            raise Problem(
                403,
                f"Pages of {quoted(origin[:200])} are not allowed to use this server.",
                "Start the server with --cors-origin ORIGIN to allow it.",
            )
        preflight = method == "OPTIONS" and origin in self.origins
        if self.token and path not in HEALTH and not preflight and not self.knows(_token(headers)):
            raise Problem(401, "The request has no valid token.", "Send the header: Authorization: Bearer TOKEN")

    def asks_for_cookie(self, method: str, path: str, query: str) -> str:
        """The cookie for a browser that opened an address with the token in it, since headers cannot be typed there.

        Args:
            method: Of the request.
            path: Of the request.
            query: Of its address.

        Returns:
            The value of Set-Cookie; empty for all other requests.
        """
        # Not as in a form, where a plus is a space: `openssl rand -base64` makes tokens with plusses.
        token = parse_qs(query.replace("+", "%2B")).get("token", [""])[0]
        is_page = path == "/" or path.startswith("/page/")
        if not self.token or method != "GET" or not is_page or not self.knows(token):
            return ""
        cookie: SimpleCookie = SimpleCookie({COOKIE: token})
        for name, value in {"path": "/", "httponly": "1", "samesite": "Strict"}.items():
            cookie[COOKIE][name] = value
        return cookie[COOKIE].OutputString()

    def knows(self, token: str) -> bool:
        """Whether a token is correct, compared in constant time."""
        return secrets.compare_digest(token.encode("utf-8", "replace"), self.token.encode())

    def _is_ours(self, host: str) -> bool:
        name = _host_name(host)
        return name == "localhost" or name in self.hosts or _is_address(name)

    def _may_write(self, origin: str, host: str) -> bool:
        # Behind a proxy that speaks TLS the scheme differs; the host may not.
        # No URL is parsed here: `http://[` is none, and must be refused rather than raise.
        return origin in self.origins or origin.partition("://")[2].lower() == host.lower() != ""


def _is_origin(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc != "" and text == f"{parts.scheme}://{parts.netloc}"


def is_local(host: str) -> bool:
    """Whether a server that listens there can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(host: str) -> str:
    """The host name in a Host header, without its port; empty if it is invalid."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name if bracket and (not port or (port[0] == ":" and port[1:].isdigit())) else ""
    name, colon, port = host.partition(":")
    return name.lower() if not colon or port.isdigit() else ""


def _is_address(name: str) -> bool:
    """Whether a host is an IP address: DNS rebinding needs a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _token(headers: Mapping[str, str]) -> str:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    # As browsers write them. SimpleCookie drops all where one has a value such as {"a":1}, and on localhost there are
    # cookies of every other program with a page.
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def allowed_names(names: Iterable[str], host: str) -> frozenset[str]:
    """The allowed host names of a server, including the one it listens on if that is a name."""
    return frozenset(name.lower() for name in (*names, host) if name)
