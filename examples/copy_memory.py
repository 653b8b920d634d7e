"""The copying task: remember ten symbols over T steps of nothing, and say them when asked.

A sequence has T + 20 steps of an alphabet of ten: ten symbols out of eight, drawn anew for each; T − 1 blanks; a mark that
asks; ten blanks. What is wanted is blanks, and at the last ten steps the ten symbols in their order. Who remembers nothing does
best to say blanks, and in the end each symbol with probability 1/8: a mean cross-entropy of 10 ln 8/(T + 20). An ordinary
recurrent network loses the symbols on the way, or the gradients do; the state of a unitary one keeps its size (Arjovsky, Shah
and Bengio 2016).

    python examples/copy_memory.py [T] [STEPS]
"""

import math
import sys

import torch
from torch import Tensor, nn

from descend.nn import UnitaryRNN
from descend.optim import rmsprop

SYMBOLS, LENGTH = 8, 10
BLANK, ASK = 8, 9


def sequences(count: int, delay: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs as unit vectors, (count, T + 20, 10), and what is wanted, (count, T + 20)."""
    told = torch.randint(SYMBOLS, (count, LENGTH), generator=draw)
    blanks = torch.full((count, delay + 2 * LENGTH), BLANK)
    inputs, wanted = blanks.clone(), blanks
    inputs[:, :LENGTH] = told
    inputs[:, LENGTH + delay - 1] = ASK
    wanted[:, -LENGTH:] = told
    return nn.functional.one_hot(inputs, SYMBOLS + 2).float(), wanted


def memoryless(delay: int) -> float:
    """The smallest cross-entropy without a memory."""
    return LENGTH * math.log(SYMBOLS) / (delay + 2 * LENGTH)


def main(
    delay: int = 100, steps: int = 500, units: int = 128, batch: int = 20, rate: float = 1e-3, seed: int = 0
) -> dict[str, float]:
    """Train on new sequences at each step; cross-entropy on others, and the share of symbols said right."""
    torch.manual_seed(seed)
    draw = torch.Generator().manual_seed(seed)
    model = UnitaryRNN(SYMBOLS + 2, SYMBOLS + 2, units)
    optimizer = rmsprop(model.parameters(), lr=rate, alpha=0.9)
    for step in range(1, steps + 1):
        inputs, wanted = sequences(batch, delay, draw)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs).flatten(0, 1), wanted.flatten())
        loss.backward()
        optimizer.step()
        if step % 250 == 0:
            print(f"{step:6d}  {loss.item():.4f}  without memory {memoryless(delay):.4f}", flush=True)
    with torch.no_grad():
        inputs, wanted = sequences(200, delay, draw)
        said = model(inputs)
    right = said.argmax(-1)[:, -LENGTH:] == wanted[:, -LENGTH:]
    loss = nn.functional.cross_entropy(said.flatten(0, 1), wanted.flatten())
    return {"loss": loss.item(), "memoryless": memoryless(delay), "right": right.float().mean().item()}


if __name__ == "__main__":
    arguments = [int(each) for each in sys.argv[1:]]
    found = main(*arguments)
    print(
        f"cross-entropy {found['loss']:.4f}, without memory {found['memoryless']:.4f}; {found['right']:.0%} of the symbols right"
    )
