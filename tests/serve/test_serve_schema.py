"""Whatever a request holds, by the API's own description or against it, no answer is a fault of the server."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from served import make_index, running
from tiny_index import FakeDetector

from han_retrieval.serve import SearchService, create_app


@pytest.fixture(scope="module")
def described(tmp_path_factory):
    index = make_index(tmp_path_factory.mktemp("schema"))
    with running(create_app(SearchService(index, detector=FakeDetector()))) as (host, port):
        yield schemathesis.openapi.from_url(f"http://{host}:{port}/openapi.json")


def check(case: schemathesis.Case) -> None:
    answer = case.call()
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and case.method.upper() != "HEAD" and "json" in answer.headers["content-type"][0]:
        (line,) = answer.json().values()
        assert "\n" not in line
        assert len(line) < 3_000


@pytest.mark.parametrize("cases", [3, pytest.param(250, marks=pytest.mark.slow)])
def test_no_request_is_a_fault(described, cases):
    for operation in described.get_all_operations():
        quiet = settings(max_examples=cases, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        quiet(given(case=operation.ok().as_strategy())(check))()
