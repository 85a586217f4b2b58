"""The OpenAPI document against the server: what schemathesis makes of it is answered as it says, and by no 5xx."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from serving import Server, serving

pytest.importorskip("fastapi", reason="no web framework: pip install '.[serve]'")
schemathesis = pytest.importorskip("schemathesis", reason="pip install '.[dev]'")

pytestmark = pytest.mark.slow
EXAMPLES = 40
CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
OPERATIONS = (
    "GET /healthz",
    "GET /metrics",
    "GET /readyz",
    "GET /v1/models",
    "GET /v1/models/{name}",
    "GET /v2",
    "GET /v2/health/live",
    "GET /v2/health/ready",
    "GET /v2/models/{name}",
    "GET /v2/models/{name}/ready",
    "POST /v1/models/{name}/predict",
    "POST /v2/models/{name}/infer",
)


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model.parent, "--workers", "1", "--max-mb", "4", "--max-seconds", "5") as one:
        yield one


@pytest.fixture(scope="module")
def operations(server: Server) -> dict[str, Any]:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{server.port}/openapi.json")
    found = [one.ok() for one in schema.get_all_operations()]
    return {f"{one.method.upper()} {one.path}": one for one in found}


def test_all_operations_are_tried(operations: dict[str, Any]) -> None:
    assert tuple(sorted(operations)) == OPERATIONS


# Nothing is against the document where it takes nothing, or any name.
@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, "positive") for name in OPERATIONS] + [(name, "negative") for name in OPERATIONS if "POST" in name],
)
def test_what_the_document_describes_is_answered_as_it_says(
    name: str, mode: str, operations: dict[str, Any], server: Server
) -> None:
    operation = operations[name]
    strategy = operation.as_strategy(generation_mode=schemathesis.GenerationMode(mode))
    checks = schemathesis.checks.CHECKS.get_by_names(CHECKS)
    statuses = set()

    @settings(
        max_examples=EXAMPLES, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=strategy)
    def ask(case: Any) -> None:
        if "name" in (case.path_parameters or {}):
            case.path_parameters["name"] = "shapes"  # else there is no such model, and nothing more to see
        answer = case.call()
        statuses.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=checks)

    ask()
    print(name, mode, statuses)
    assert statuses - {404}  # it came further than to a model that there is not
    assert server.ask("/readyz").status == 200
