"""The model card as Markdown, with the header of YAML that the Hugging Face Hub reads.

The header is written as JSON values, which are YAML too: no name in it can be taken for something else.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from headstart.core.text import counted, listed, portable
from headstart.prediction.model_card import Section, sections
from headstart.targets import TARGETS, comparing_of

if TYPE_CHECKING:
    from headstart.prediction.classifier import Classifier

_SHOWN = 50  # names of classes in the first sentence
# What Markdown and the HTML in it would read as more than text.
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~&])")
_USE = """\
## How to use it
```python
import headstart

print(headstart.load("model.onnx").predict("photo.jpg"))
```
The file needs only ONNX Runtime, and resizes and normalises the pixels itself:
```python
import json

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
classes = json.loads(session.get_modelmeta().custom_metadata_map["headstart"])["classes"]
pixels = np.asarray(ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB"))
(probabilities,) = session.run(["probabilities"], {"image": pixels[None]})
print(classes[probabilities[0].argmax()], probabilities[0].max())
```
"""
_USE_OF_LABELS = _USE.replace(
    """classes = json.loads(session.get_modelmeta().custom_metadata_map["headstart"])["classes"]
""",
    """metadata = json.loads(session.get_modelmeta().custom_metadata_map["headstart"])
""",
).replace(
    """print(classes[probabilities[0].argmax()], probabilities[0].max())
""",
    """for label, probability, least in zip(metadata["classes"], probabilities[0], metadata["thresholds"]):
    if probability >= least:
        print(label, probability)
""",
)


def markdown(classifier: Classifier, name: str, licence: str | None = None) -> str:
    """The card of a model, for a file ``README.md`` beside it.

    Args:
        classifier: The model.
        name: What the card calls it.
        licence: That the model is given away under, an identifier of the Hub such as ``apache-2.0``; None says nothing.
    """
    names = _text(listed(classifier.classes, _SHOWN))
    exclusive = TARGETS[classifier.metadata.task].exclusive
    what = (
        f"Classifies images into {counted(len(classifier.classes), 'class', 'classes')}: {names}."
        if exclusive
        else f"Says of each of {counted(len(classifier.classes), 'label')} whether it is true of an image: {names}. "
        "Any number of them can be true; an image has a label from the label's threshold on."
    )
    parts = [
        "---",
        *(
            f"{key}: {json.dumps(value, ensure_ascii=True)}"
            for key, value in _header(classifier, name, licence).items()
        ),
        "---",
        f"# {_text(name)}\n",
        f"{what} One ONNX file with the preprocessing inside, written by Headstart.\n",
        _USE if exclusive else _USE_OF_LABELS,
        *map(_section, sections(classifier)),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _header(classifier: Classifier, name: str, licence: str | None) -> dict[str, object]:
    """The fields of the Hub's model cards: https://huggingface.co/docs/hub/model-cards, "Model card metadata"."""
    evaluation = classifier.metadata.evaluation or {}
    header: dict[str, object] = {} if licence is None else {"license": licence}
    header |= {
        "library_name": "headstart",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "onnx", "transfer-learning"],
    }
    measure = comparing_of(classifier.metadata.task).measure
    value, split = evaluation.get(measure), evaluation.get("split")
    if not isinstance(value, float):
        return header
    measured = {
        "task": {"type": "image-classification"},
        "dataset": {"name": f"held-out images ({portable(str(split))})", "type": "imagefolder"},
        "metrics": [{"type": measure, "value": round(value, 6)}],
    }
    return header | {"metrics": [measure], "model-index": [{"name": portable(name), "results": [measured]}]}


def _section(section: Section) -> str:
    lines = [f"## {_text(section.title)}", *(f"{_text(sentence)}\n" for sentence in section.sentences)]
    if section.facts:
        lines += _table(("", ""), section.facts)
    if section.table:
        lines += ["", *_table(section.table.head, section.table.rows)]
    return "\n".join(lines) + "\n"


def _table(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> list[str]:
    return [_row(head), _row(("---",) * len(head), escape=False), *map(_row, rows)]


def _row(cells: tuple[str, ...], *, escape: bool = True) -> str:
    return f"| {' | '.join(_text(cell) if escape else cell for cell in cells)} |"


def _text(text: str) -> str:
    """A text that Markdown shows as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", portable(text)).replace("\n", " ").replace("\r", " ")
