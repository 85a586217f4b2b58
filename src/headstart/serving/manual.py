"""The page at /docs: every operation of the OpenAPI document, without scripts and without other hosts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, Response

from headstart.core.markup import Markup, escaped, joined

if TYPE_CHECKING:
    from fastapi import FastAPI

_STYLE = (
    ":root{color-scheme:light dark}body{font:1rem/1.5 system-ui,sans-serif;max-width:56rem;margin:2rem auto;"
    "padding:0 1rem}h2{margin-top:2.5rem;font-size:1.1rem}h2 code{font-size:1rem}table{border-collapse:collapse}"
    "td,th{text-align:left;vertical-align:top;padding:.15rem 1rem .15rem 0}code{overflow-wrap:anywhere}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class Manual:
    """The page.

    Args:
        app: What it is about.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app

    def add_to(self, app: FastAPI) -> None:
        """Add the route."""
        app.add_api_route("/docs", self.page, include_in_schema=False)

    async def page(self) -> Response:
        """All operations."""
        schema = self._app.openapi()
        body = joined([
            Markup(f"<h1>{escaped(schema['info']['title'])} {escaped(schema['info']['version'])}</h1>"),
            Markup(f"<p>{escaped(schema['info']['description'])} Machine-readable: "
                   "<a href='/openapi.json'>OpenAPI document</a>.</p>"),
            *_operations(schema),
        ])  # fmt: skip
        return document(body, "Headstart: API")


def document(body: Markup, title: str) -> Response:
    """An HTML page without scripts."""
    content = (
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><meta name='viewport' "
        f"content='width=device-width'><title>{escaped(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main>{body}</main></body></html>"
    )
    return HTMLResponse(content, headers={"Content-Security-Policy": _POLICY})


def _operations(schema: dict[str, Any]) -> Iterator[Markup]:
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            yield Markup(f"<h2><code>{escaped(method.upper())} {escaped(path)}</code></h2>")
            yield Markup(f"<p>{escaped(operation.get('description', operation.get('summary', '')))}</p>")
            bodies = operation.get("requestBody", {}).get("content", {})
            if bodies:
                yield Markup(f"<p>Body: {', '.join(f'<code>{escaped(kind)}</code>' for kind in bodies)}</p>")
            yield _table("Parameter", [_parameter(one) for one in operation.get("parameters", [])])
            yield _table("Status", [(code, one["description"]) for code, one in operation["responses"].items()])


def _parameter(one: dict[str, Any]) -> tuple[str, str]:
    default = one.get("schema", {}).get("default")
    words = one.get("description", "")
    return one["name"], words if default is None else f"{words} Default: {json.dumps(default)}."


def _table(head: str, rows: list[tuple[str, str]]) -> Markup:
    if not rows:
        return Markup("")
    lines = "".join(
        f"<tr><th scope='row'><code>{escaped(name)}</code></th><td>{escaped(words)}</td></tr>" for name, words in rows
    )
    return Markup(f"<table><thead><tr><th>{escaped(head)}</th><th></th></tr></thead><tbody>{lines}</tbody></table>")
