"""An optimizer does not import PyTorch's compiler, and one that is compiled behaves as in PyTorch."""

import subprocess
import sys

import pytest

TRAINS = """
import sys, torch
from descend.optim import adagrad, adam
from descend.optim.lean import lean_step
model = torch.nn.Linear(3, 2)
for optimizer in (adam(model.parameters(), lr=0.1), adagrad(model.parameters(), lr=0.1)):
    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(4, 3)).sum()
        loss.backward()
        return loss.detach()

    step = lean_step(optimizer)
    step(closure), step(closure)
    optimizer.load_state_dict(optimizer.state_dict())
assert "torch._dynamo" not in sys.modules, "compiler imported"
"""

COMPILES = """
weights = []
for compiled in (False, True):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def take_step():
        optimizer.zero_grad()
        model(torch.ones(4, 3)).square().sum().backward()
        optimizer.step()

    step = torch.compile(take_step, backend="eager") if compiled else take_step
    step(), step()
    optimizer.add_param_group({"params": [torch.ones(1, requires_grad=True)]})
    weights.append(model.weight.detach().clone())
assert torch.equal(*weights)
assert "torch._dynamo" in sys.modules
"""


@pytest.mark.parametrize("program", [TRAINS, TRAINS + COMPILES], ids=["without compiler", "compiled later"])
def test_in_a_fresh_process(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_command_imports_neither_the_compiler_nor_scipy_nor_pandas(tmp_path):
    """They take longer to import than a short training takes."""
    program = (
        "import sys; from descend.cli import main\n"
        "try: main(['train', 'iris', '--set', 'stop.max_epochs=1', '--quiet', '--out', 'r'])\n"
        "except SystemExit as end: assert not end.code\n"
        "print([m for m in ('torch._dynamo', 'sklearn', 'scipy', 'pandas', 'pyarrow', 'sympy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


HOOKED = """
import sys, torch
from descend.optim.compiler_import import eager_step
ends = []
for eager in (True, False):
    w = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
    calls = []
    optimizer.register_step_pre_hook(lambda stepped, args, kwargs: (calls.append("before"), ((args[0], closure), kwargs))[1])
    optimizer.register_step_post_hook(lambda stepped, args, kwargs: calls.append("after"))

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    step = eager_step(optimizer) if eager else optimizer.step
    losses = [step(lambda: None) for _ in range(3)]
    assert calls == ["before", "after"] * 3
    assert torch.is_grad_enabled()
    ends.append(torch.cat([w.detach(), torch.stack(losses).detach()]))
    assert ("torch._dynamo" in sys.modules) is not eager
assert torch.equal(*ends)
"""


def test_hooks_are_called_as_by_the_optimizer_itself():
    done = subprocess.run([sys.executable, "-c", HOOKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
