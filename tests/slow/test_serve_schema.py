"""Requests made up from the server's own OpenAPI document, right and wrong ones: no answer is a fault of the server."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from selfalign.chat.server.hub import scripted_service
from tests.support.listening import Listening, listening
from tests.support.runs import small_constitution

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

EXAMPLES = 25
"""Requests of an endpoint, right ones, and as many wrong ones."""


@pytest.fixture(scope="module")
def server() -> Iterator[Listening]:
    with listening(scripted_service(lambda request: "fine", small_constitution())) as server:
        yield server


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_no_request_makes_the_server_fail(server: Listening, mode: GenerationMode) -> None:
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [result.ok() for result in document.get_all_operations()]
    statuses: Counter[int] = Counter()

    def check(case: schemathesis.Case) -> None:
        answer = case.call()
        statuses[answer.status_code] += 1
        assert answer.status_code < 500, (answer.text, case.as_curl_command())
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    for operation in operations:
        if mode is GenerationMode.POSITIVE or operation.method == "post":
            bounded = settings(
                max_examples=EXAMPLES if operation.method == "post" else 5,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            bounded(given(operation.as_strategy(generation_mode=mode))(check))()
    assert {operation.path for operation in operations} >= {"/v1/chat/completions", "/v1/completions", "/readyz"}
    assert statuses[400] + statuses[404] >= EXAMPLES
    assert server.service.ready()
