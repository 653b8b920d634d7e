"""Cayley SGD and Adam against dense float64 algebra, closed forms and the named faults of existing code."""

import pytest
from contract import Case, Contract

CASES = [
    Case("cayley_sgd", stateful=False),
    Case("cayley_sgd", {"momentum": 0.9}),
    Case("cayley_adam"),
]


@pytest.fixture(params=CASES, ids=str)
def case(request):
    return request.param


class TestContract(Contract):
    """Without an orthonormal weight they are ordinary optimizers."""
