"""The copying task: remember ten symbols over T blank steps, and reproduce them on a signal.

A sequence has T + 20 steps over an alphabet of ten: ten random symbols out of eight, T − 1 blanks, a signal, ten blanks.
The target is blank except in the last ten steps, where it is the ten symbols in order. The best prediction without memory
is blanks, and each of the ten symbols with probability 1/8: a mean cross-entropy of 10 ln 8/(T + 20). In an ordinary
recurrent network the symbols are forgotten, or the gradients vanish; the state of a unitary network keeps its norm
(Arjovsky, Shah and Bengio 2016).

    python examples/copy_memory.py [T] [STEPS]
"""

import math
import sys

import torch
from torch import Tensor, nn

from descend.nn import UnitaryRNN
from descend.optim import rmsprop

SYMBOLS, LENGTH = 8, 10
BLANK, SIGNAL = 8, 9


def sequences(count: int, delay: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return one-hot inputs, (count, T + 20, 10), and targets, (count, T + 20)."""
    symbols = torch.randint(SYMBOLS, (count, LENGTH), generator=rng)
    blanks = torch.full((count, delay + 2 * LENGTH), BLANK)
    inputs, targets = blanks.clone(), blanks
    inputs[:, :LENGTH] = symbols
    inputs[:, LENGTH + delay - 1] = SIGNAL
    targets[:, -LENGTH:] = symbols
    return nn.functional.one_hot(inputs, SYMBOLS + 2).float(), targets


def memoryless(delay: int) -> float:
    """Return the smallest cross-entropy without memory."""
    return LENGTH * math.log(SYMBOLS) / (delay + 2 * LENGTH)


def main(
    delay: int = 100, steps: int = 500, units: int = 128, batch: int = 20, lr: float = 1e-3, seed: int = 0
) -> dict[str, float]:
    """Train on new sequences at each step; return the cross-entropy and the fraction of correct symbols on other sequences."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    model = UnitaryRNN(SYMBOLS + 2, SYMBOLS + 2, units)
    optimizer = rmsprop(model.parameters(), lr=lr, alpha=0.9)
    for step in range(1, steps + 1):
        inputs, targets = sequences(batch, delay, rng)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()
        if step % 250 == 0:
            print(f"{step:6d}  {loss.item():.4f}  without memory {memoryless(delay):.4f}", flush=True)
    with torch.no_grad():
        inputs, targets = sequences(200, delay, rng)
        outputs = model(inputs)
    correct = outputs.argmax(-1)[:, -LENGTH:] == targets[:, -LENGTH:]
    loss = nn.functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())
    return {"loss": loss.item(), "memoryless": memoryless(delay), "correct": correct.float().mean().item()}


if __name__ == "__main__":
    arguments = [int(each) for each in sys.argv[1:]]
    result = main(*arguments)
    print(
        f"cross-entropy {result['loss']:.4f}, without memory {result['memoryless']:.4f}; "
        f"{result['correct']:.0%} of the symbols correct"
    )
