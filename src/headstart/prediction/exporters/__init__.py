"""The forms that a model can be handed out in: a row and a file for each.

An exporter is called with the classifier, the name of the model and the path to write, and gives the files that it
wrote.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ExporterSpec:
    """What is known of a form without making it.

    Attributes:
        function: What writes it, as ``module:name``: takes a `Classifier`, a name and a path, gives the files.
        help: What it is, in a few words.
        suffix: Of the file; empty for a folder.
        next_step: What to do with it.
    """

    function: str
    help: str
    suffix: str
    next_step: str


EXPORTERS = {
    "html": ExporterSpec(
        function="headstart.prediction.exporters.page:write_page",
        help="one file that classifies in any browser, without a network or a server",
        suffix=".html",
        next_step="Open it in a browser, or mail it: it needs no network, no server and no program.",
    ),
    "web": ExporterSpec(
        function="headstart.prediction.exporters.page:write_site",
        help="the same as a folder for a web host, which works offline after the first visit",
        suffix="",
        next_step="Put the folder on a web host (https); to try it here: python -m http.server -d FOLDER",
    ),
}
