"""The web page: the one that `headstart export` writes, but with predictions made by this server."""

from __future__ import annotations

from urllib.parse import quote

from fastapi import FastAPI
from starlette.responses import HTMLResponse, Response

from headstart.core.markup import Markup, escaped
from headstart.prediction.exporters.page import served_page
from headstart.serving.desk import Desk
from headstart.serving.manual import document
from headstart.serving.models import Served
from headstart.serving.rest import Name


class Browser:
    """The routes.

    Args:
        desk: What they share.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def add_to(self, app: FastAPI) -> None:
        """Add the routes to an application."""
        app.add_api_route("/", self.start, include_in_schema=False)
        app.add_api_route("/page/{name}", self.page, include_in_schema=False)

    async def start(self) -> Response:
        """The page of the only model, or a list of pages."""
        models = self._desk.models.all()
        if len(models) == 1:
            return self._page(models[0], "v1/models/")
        links = "".join(
            f"<li><a href='page/{escaped(quote(one.name, safe=''))}'>{escaped(one.name)}</a></li>" for one in models
        )
        words = "Choose a model." if models else "No model is served yet."
        return document(Markup(f"<h1>Headstart</h1><p>{words}</p><ul>{links}</ul>"), "Headstart")

    async def page(self, name: Name) -> Response:
        """The page of a model."""
        others = "../" if len(self._desk.models) > 1 else ""
        return self._page(self._desk.model(name), "../v1/models/", others)

    def _page(self, served: Served, root: str, others: str = "") -> Response:
        address = f"{root}{quote(served.name, safe='')}/predict"
        neighbours = self._desk.knows_training_images(served)
        content, policy = served_page(
            served.classifier, served.name, address, neighbours=neighbours, maps=served.mapped, others=others
        )
        return HTMLResponse(content, headers={"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"})
