"""Requests made up from the descriptions, valid and not: none is answered with 5xx; at the root,
answers are as described.

(Below /v1 the descriptions hold tuples, whose schemas Schemathesis 4.32 takes for invalid when it
checks answers.)"""

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from served_nla import serving

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
from schemathesis.checks import CHECKS, load_all_checks  # noqa: E402

load_all_checks()
NO_FAULT, AS_DESCRIBED = (
    CHECKS.get_one(name) for name in ("not_a_server_error", "response_schema_conformance")
)
EXPECTED = {"": [NO_FAULT, AS_DESCRIBED], "/v1": [NO_FAULT]}
MODES = tuple(schemathesis.GenerationMode)
KNOWN = {"": 8, "/v1": 15}
"""Operations that each description has at least."""


@pytest.fixture(scope="module")
def address(nla, tmp_path_factory):
    with serving(
        {"one": nla, "two": nla}, runs=tmp_path_factory.mktemp("runs"), max_new_tokens=8
    ) as client:
        yield str(client.base_url).rstrip("/")


def ask(base, examples, checks):
    """So many requests to every operation that an application describes; returns how many were sent
    and got a 2xx.
    """
    quiet = settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    answered = {}
    for found in schemathesis.openapi.from_url(f"{base}/openapi.json").get_all_operations():
        operation = found.ok()
        for mode in MODES:

            @quiet
            @given(case=operation.as_strategy(generation_mode=mode))
            def send(case):
                response = case.call_and_validate(base_url=base, checks=checks)
                answered.setdefault(case.operation.label, []).append(response.status_code)

            try:
                send()
            except Unsatisfiable:  # nothing about it can be wrong
                assert mode is schemathesis.GenerationMode.NEGATIVE
                assert operation.method.upper() == "GET"
    return answered


@pytest.mark.parametrize("path", KNOWN)
@pytest.mark.parametrize("examples", [6, pytest.param(150, marks=pytest.mark.slow)])
def test_no_request_is_the_servers_fault(address, path, examples):
    answered = ask(address + path, examples, EXPECTED[path])
    assert len(answered) >= KNOWN[path]
    for label, statuses in answered.items():
        assert max(statuses) < 500, label
    assert sum(status == 200 for statuses in answered.values() for status in statuses) >= len(
        answered
    )
    assert httpx2.get(f"{address}/readyz").json() == {"ready": True}
