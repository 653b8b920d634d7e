import pytest

from descend.experiments.search import Space


@pytest.fixture
def space():
    """A learning rate, a conditional momentum, a width."""
    return Space.of(
        {
            "optimizer": {
                "name": ["sgd", "adamw"],
                "lr": {"log_uniform": [1e-4, 1e-1]},
                "momentum": {"uniform": [0.5, 0.99], "when": {"optimizer.name": "sgd"}},
            },
            "model": {"hidden": [[16], [32]]},
        }
    )
