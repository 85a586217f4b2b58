"""Who may ask a server, and who sees training images: what browsers, proxies and other programs send."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from headstart.core.errors import OptionError

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")

from headstart.cli.serve import serve
from headstart.serving import server
from headstart.serving.policy import Policy
from headstart.serving.problems import Problem

TOKEN = "0123456789abcdef"


def test_a_token_with_a_plus_and_a_slash_opens_the_page() -> None:
    token = "ab+cd/efghijklmnop=="
    policy = Policy(token=token)
    for written in (token, "ab%2Bcd%2Fefghijklmnop%3D%3D"):
        cookie = policy.asks_for_cookie("GET", "/", f"a=b&token={written}")
        policy.check("GET", "/", {"host": "localhost", "cookie": cookie.partition(";")[0]})
    assert policy.asks_for_cookie("GET", "/", "token=ab%20cd/efghijklmnop==") == ""


@pytest.mark.parametrize("cookies", ['ui={"a":1}; {}', '{}; ui={"a":1}', "[x]=1; é; {}; a b=c"])
def test_cookies_of_other_programs_are_no_hindrance(cookies: str) -> None:
    own = f"headstart-token={TOKEN}"
    Policy(token=TOKEN).check("GET", "/", {"host": "localhost", "cookie": cookies.replace("{}", own)})
    with pytest.raises(Problem):
        Policy(token=TOKEN).check("GET", "/", {"host": "localhost", "cookie": cookies.replace("{}", own[:-1])})


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "", "://", "http://", "null", "localhost:8000"])
def test_an_origin_that_is_none_is_refused(origin: str) -> None:
    for host in ("localhost:8000", ""):
        with pytest.raises(Problem) as refused:
            Policy().check("POST", "/x", {"host": host, "origin": origin})
        assert refused.value.status == 403
    with pytest.raises(OptionError, match="origin"):
        Policy(origins=frozenset([origin]))


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, True),
        ({"allow_host": ["pets.example"]}, False),
        ({"cors_origin": ["https://app.example"]}, False),
        ({"host": "0.0.0.0"}, False),
        ({"allow_host": ["pets.example"], "neighbours": True}, True),
        ({"neighbours": False}, False),
    ],
)
def test_training_images_are_shown_where_nobody_else_can_ask(
    model: Path, options: dict[str, Any], shown: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[tuple[bool, str]] = []

    def run(_: object, __: object, ___: object, policy: Policy, watched: server.Watched, ____: object) -> None:
        found.append((watched.training_images, policy.token))

    monkeypatch.setattr(server, "run_server", run)
    monkeypatch.setenv("HEADSTART_TOKEN", f" {TOKEN}\r\n")  # as a file of a secret ends
    serve([str(model)], quiet=True, **options)
    assert found == [(shown, TOKEN)]
