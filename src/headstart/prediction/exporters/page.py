"""The page that classifies images in a browser: the model file and ONNX Runtime's WebAssembly in one HTML file.

The page is built from ``web/`` (TypeScript) into the folder ``page`` beside this module; here the model and what is
known of it are put into it. Its security policy allows the page its own script, by its digest, and no request.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING

from headstart import __version__
from headstart.core.digest import csp_hash
from headstart.core.markup import escaped
from headstart.core.text import counted, portable
from headstart.prediction.model_card import sections
from headstart.preprocess.nodes import MAX_ASPECT
from headstart.settings.recipe import FULL_RANGE
from headstart.targets import TARGETS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from headstart.prediction.classifier import Classifier
    from headstart.prediction.exporters import Files

RUNTIME = "runtime.wasm.gz"
_IN_A_FILE = (
    "Nothing leaves this device: the page holds the model, and its security policy blocks every request. It works "
    "without a network."
)
_ON_A_HOST = (
    "Images stay on this device: the page fetches its model from its own host, and its security policy keeps it from "
    "sending anything elsewhere."
)
_ON_A_SERVER = "Images are sent to this server, which classifies them in memory and does not keep them."
_IN_BROWSERS = "JPEG, PNG, WebP, AVIF, GIF and BMP; browsers do not decode TIFF, and most do not decode HEIC."
_ANYWHERE = "JPEG, PNG, HEIC, WebP, AVIF, TIFF, GIF, BMP, JPEG 2000 and others."
_PLACE = re.compile(r"\{\{(\w+)\}\}")


def page(classifier: Classifier, name: str, images: Sequence[NDArray[np.uint8]] = ()) -> Files:
    """The page as one HTML file.

    Args:
        classifier: The model.
        name: What the page calls it.
        images: Not looked at.
    """
    blobs = {"model.onnx": gzip.compress(classifier.content, 9, mtime=0), RUNTIME: _asset(RUNTIME)}
    return {"": _page(classifier, name, blobs, _IN_A_FILE, _policy("connect-src 'none'")).encode()}


def site(classifier: Classifier, name: str, images: Sequence[NDArray[np.uint8]] = ()) -> Files:
    """The page as a folder for a web host: what browsers may keep lies in files of its own.

    Args:
        classifier: The model.
        name: What the page calls it.
        images: Not looked at.
    """
    content = _page(classifier, name, {}, _ON_A_HOST, _policy("connect-src 'self'; worker-src 'self'"))
    digest = hashlib.sha256(content.encode() + classifier.content).hexdigest()[:16]
    worker = _fill(_asset("service-worker.js").decode(), {"digest": digest})
    return {
        "model.onnx": classifier.content,
        RUNTIME: _asset(RUNTIME),
        "index.html": content.encode(),
        "service-worker.js": worker.encode(),
    }


def served_page(
    classifier: Classifier, name: str, address: str, *, neighbours: bool, maps: bool, others: str = ""
) -> tuple[str, str]:
    """The page of a server, which classifies what the page sends to it; and the page's security policy.

    Args:
        classifier: The model.
        name: What the page calls it.
        address: Where it sends images.
        neighbours: Whether the server knows the nearest training images.
        maps: Whether it gives class activation maps.
        others: Where its list of models is; empty if it serves no other.
    """
    policy = _policy("connect-src 'self'")
    server = {"server": address, "neighbours": neighbours, "maps": maps}
    return _page(classifier, name, {}, _ON_A_SERVER, policy, server, others), policy


def _policy(more: str) -> str:
    style, script = _asset("page.css").decode(), _asset("page.js").decode()
    return (
        f"default-src 'none'; script-src '{csp_hash(script)}' 'wasm-unsafe-eval'; style-src '{csp_hash(style)}'; "
        f"img-src blob: data:; {more}; base-uri 'none'; form-action 'none'"
    )


def _page(
    classifier: Classifier,
    name: str,
    blobs: dict[str, bytes],
    private: str,
    policy: str,
    server: dict[str, object] | None = None,
    others: str = "",
) -> str:
    if TARGETS[classifier.metadata.task].exclusive:
        does = f"Distinguishes {counted(len(classifier.classes), 'class', 'classes')} of images"
    else:
        does = f"Says which of {counted(len(classifier.classes), 'label')} are true of an image"
    data = {**_data(classifier, name), "server": None, "neighbours": False, "maps": False}
    if server is not None:  # which runs the model, and has proved it
        data |= {"head": None, "golden": [], **server}
    return _fill(
        _asset("page.html").decode(),
        {
            "policy": policy,
            "title": escaped(name),
            "others": f' · <a href="{escaped(others)}">All models</a>' if others else "",
            "lead": escaped(f"{does}: {_shown(classifier.classes)}."),
            "private": escaped(private),
            "kinds": _IN_BROWSERS if server is None else _ANYWHERE,
            "version": __version__,
            "notice": _asset("onnxruntime.LICENSE").decode().replace("--", "- -"),
            "runtime": json.loads(_asset("built.json"))["runtime"]["version"],
            "style": _asset("page.css").decode(),
            "script": _asset("page.js").decode(),
            # No text within can end the element that it stands in.
            "data": json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"),
            "blobs": "\n".join(
                f'<script type="text/plain" id="{key}">{base64.b64encode(content).decode("ascii")}</script>'
                for key, content in blobs.items()
            ),
        },
    )


def _data(classifier: Classifier, name: str) -> dict[str, object]:
    """What the page must know, as JSON values; ``web/src/page-data.ts`` is its other half."""
    metadata, spec = classifier.metadata, classifier.metadata.preprocess
    conformal = metadata.conformal
    return {
        "name": name,
        "version": __version__,
        "classes": [portable(label) for label in metadata.classes],
        "thresholds": list(metadata.thresholds) or None,
        "preprocess": {
            "size_px": spec.size_px, "resize_px": spec.resize_px, "fit": spec.fit, "max_aspect": MAX_ASPECT,
        },
        "enough_px": spec.enough_px,
        "max_megapixels": metadata.max_megapixels,
        "white_level": spec.white_level != FULL_RANGE,
        "threshold": metadata.familiarity.threshold if metadata.familiarity else None,
        "sets": {"images": conformal.images, "scores": list(conformal.scores)} if conformal else None,
        "head": _head(classifier),
        "golden": [
            {"png": base64.b64encode(one.png).decode("ascii"), "probabilities": [float(p) for p in one.probabilities]}
            for one in metadata.golden
        ],
        "tolerance": metadata.tolerance.get("probability", 0.0),
        "card": [section.as_dict() for section in sections(classifier)],
    }  # fmt: skip


def _head(classifier: Classifier) -> dict[str, object] | None:
    """Where the weights of a linear head lie in the model file, for the class activation map; None for other heads."""
    from headstart.modelfile.linear_head import find

    head = find(classifier.content, len(classifier.classes))
    if head is None:
        return None
    at = classifier.content.find(head.weights.astype("<f4").tobytes())
    if at < 0:
        return None
    return {"at": at, "width": len(head.weights), "bias": head.bias.tolist(), "temperature": head.temperature}


def _shown(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:12])
    return shown if len(names) <= 12 else f"{shown} and {len(names) - 12:,} more"


def _fill(template: str, values: dict[str, str]) -> str:
    """Put values into the places of a template, each once: a value that looks like a place is none."""
    return _PLACE.sub(lambda place: values[place[1]], template)


def _asset(name: str) -> bytes:
    return (resources.files("headstart.prediction.exporters") / "page" / name).read_bytes()
