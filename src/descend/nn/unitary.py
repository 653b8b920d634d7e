"""The unitary recurrent network: a state that is turned at each step, and neither grows nor shrinks.

The hidden state h is complex, and from one step to the next it is multiplied by a unitary matrix made of seven factors,

    W = D₃ R₂ F⁻¹ D₂ Π R₁ F D₁,

with D diagonal, D_jj = exp(i θ_j); R = I − 2 v v*/‖v‖², a reflection; F the unitary discrete Fourier transform; Π a fixed
permutation. A product with W costs O(N log N), and W has 7 N real parameters. Whatever their values, ‖W h‖ = ‖h‖, so that
gradients through T steps neither vanish nor explode on account of W. With x the inputs,

    h_t = modReLU(W h_{t−1} + V x_t),    y_t = U (Re h_t, Im h_t) + c,

    modReLU(z) = (|z| + b) z/|z|  where |z| + b ≥ 0, and 0 elsewhere.

All parameters are stored as real numbers, for any optimizer.

Source: Arjovsky, Shah and Bengio 2016, Unitary evolution recurrent neural networks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from descend.cards import method
from descend.errors import UserError
from descend.param_types import Count

__all__ = ["ModReLU", "UnitaryMap", "UnitaryRNN", "unitary_rnn"]

_TINY = 1e-5
"""Added to |z| where it divides."""


class UnitaryMap(nn.Module):
    """h ↦ W h with the unitary W = D₃ R₂ F⁻¹ D₂ Π R₁ F D₁: complex (..., N) → (..., N).

    Angles start uniform on (−π, π), both parts of reflections' vectors on (−1, 1); the permutation is drawn, and is a buffer.

    Args:
        units: N, 1 or more.

    >>> turn = UnitaryMap(8)
    >>> h = torch.randn(3, 8, dtype=torch.complex64)
    >>> torch.allclose(turn(h).norm(dim=1), h.norm(dim=1))
    True
    """

    order: Tensor

    def __init__(self, units: int) -> None:
        super().__init__()
        # Vectors and not matrices: a weight decay, which is for matrices, must not turn angles to 0.
        for number in (1, 2, 3):
            angle = nn.Parameter(torch.empty(units).uniform_(-math.pi, math.pi))
            self.register_parameter(f"angle{number}", angle)
        for number in (1, 2):
            self.register_parameter(
                f"mirror{number}", nn.Parameter(torch.empty(2 * units).uniform_(-1.0, 1.0))
            )
        self.register_buffer("order", torch.randperm(units))

    def factors(self) -> tuple[Tensor, ...]:
        """The diagonals D₁, D₂, D₃ and the unit vectors of R₁, R₂, complex (N,): what is the same for all steps."""
        phases = [getattr(self, f"angle{number}") for number in (1, 2, 3)]
        mirrors = [_complex(getattr(self, f"mirror{number}")) for number in (1, 2)]
        turns = [torch.polar(torch.ones_like(angle), angle) for angle in phases]
        return *turns, *(mirror / torch.linalg.vector_norm(mirror) for mirror in mirrors)

    def forward(self, h: Tensor, factors: tuple[Tensor, ...] | None = None) -> Tensor:
        """W h; ``factors`` are those of :meth:`factors`, where they are known."""
        first, second, third, mirror1, mirror2 = self.factors() if factors is None else factors
        h = _reflected(torch.fft.fft(h * first, norm="ortho"), mirror1)
        h = torch.fft.ifft(h[..., self.order] * second, norm="ortho")
        return _reflected(h, mirror2) * third


class ModReLU(nn.Module):
    """z ↦ (|z| + b) z/|z| where |z| + b ≥ 0, and 0 elsewhere: a rectifier that keeps the phase. Complex (..., N) → (..., N).

    The bias starts at 0, where it is the identity. Where it is above 0 there is a jump at z = 0, which is bridged within
    |z| < 1e-5.

    Args:
        units: N, one bias each.

    >>> act = ModReLU(2)
    >>> _ = nn.init.constant_(act.bias, -1.0)
    >>> act(torch.tensor([3 + 4j, 0.5 + 0j])).abs().round(decimals=3)
    tensor([4., 0.], grad_fn=<RoundBackward1>)
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, z: Tensor) -> Tensor:
        """The same shape."""
        size = z.abs()
        share = self.bias / (size + _TINY)
        return z * torch.where(size + self.bias >= 0, 1.0 + share, torch.zeros_like(share))


class UnitaryRNN(nn.Module):
    """A unitary recurrent network: (n, T, features) → (n, T, outputs), an output at each step.

    The start h₀ is learned; its numbers start uniform with E‖h₀‖² = 1. V and U start as Glorot and Bengio's uniform weights.

    Args:
        features: numbers at each step.
        outputs: raw outputs at each step.
        units: N, the complex numbers of the state. Default 128.

    >>> model = UnitaryRNN(features=3, outputs=2, units=16)
    >>> model(torch.randn(5, 7, 3)).shape
    torch.Size([5, 7, 2])
    """

    def __init__(self, features: int, outputs: int, units: int = 128) -> None:
        super().__init__()
        bound = math.sqrt(3.0 / (2.0 * units))
        self.start = nn.Parameter(torch.empty(2 * units).uniform_(-bound, bound))
        self.reading = nn.Linear(features, 2 * units, bias=False)
        self.turn = UnitaryMap(units)
        self.act = ModReLU(units)
        self.output = nn.Linear(2 * units, outputs)
        for layer in (self.reading, self.output):
            nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, features) → (n, T, outputs)."""
        return self._written(torch.stack(self.states(x), 1))

    def last(self, x: Tensor) -> Tensor:
        """(n, T, features) → (n, outputs), after the last step."""
        return self._written(self.states(x)[-1])

    def states(self, x: Tensor) -> list[Tensor]:
        """h₁, …, h_T, each complex (n, N)."""
        read = _complex(self.reading(x))
        factors = self.turn.factors()
        state = _complex(self.start).expand(x.shape[0], -1)
        found = []
        for step in read.unbind(1):
            state = self.act(self.turn(state, factors) + step)
            found.append(state)
        return found

    def _written(self, states: Tensor) -> Tensor:
        written: Tensor = self.output(torch.cat([states.real, states.imag], -1))
        return written


class _RowsAsSequences(nn.Module):
    """A :class:`UnitaryRNN` that reads a row of any shape step by step, and gives its last output."""

    def __init__(self, inputs: tuple[int, ...], outputs: int, units: int) -> None:
        super().__init__()
        self.pictures = len(inputs) == 3
        features = {1: 1, 2: inputs[-1], 3: inputs[0]}[len(inputs)]
        self.network = UnitaryRNN(features, outputs, units)

    def forward(self, rows: Tensor) -> Tensor:
        """(n, *inputs) → (n, outputs)."""
        if self.pictures:
            rows = rows.flatten(2).mT
        return self.network.last(rows[..., None] if rows.dim() == 2 else rows)


@method(
    row="G7",
    reference="Arjovsky, Shah and Bengio 2016",
    formula="h_t = modReLU(W h_(t-1) + V x_t), W = D3 R2 F^-1 D2 P R1 F D1 unitary; y = U (Re h_T, Im h_T) + c",
    note="The modulus of the state is changed by modReLU and by what is read alone. In a loop of one's own UnitaryRNN gives an "
    "output at each step.",
)
def unitary_rnn(inputs: tuple[int, ...], outputs: int, *, units: Count = 128) -> nn.Module:
    """Unitary recurrent network: reads a row step by step, with a state that keeps its size over any number of steps.

    A row of shape (T, d) is T steps of d numbers, a plain row of d numbers is d steps of one, and an image (C, H, W) is read
    pixel by pixel. A pass takes as many steps as the row has, one after the other, so long rows are slow.
    Shapes: (n, *inputs) → (n, outputs), raw outputs after the last step.

    Args:
        inputs: the shape of one row, of one to three dimensions.
        outputs: the number of raw outputs.
        units: N, the complex numbers of the state. Default 128.

    Raises:
        UserError: rows of more dimensions.

    >>> unitary_rnn((20, 3), 4, units=8)(torch.zeros(5, 20, 3)).shape
    torch.Size([5, 4])
    """
    if not 1 <= len(inputs) <= 3:
        raise UserError(
            f"model 'unitary_rnn' reads rows of shape (steps, numbers), (steps,) or (channels, height, width); "
            f"the data's rows have shape {inputs}"
        )
    return _RowsAsSequences(inputs, outputs, units)


def _complex(pairs: Tensor) -> Tensor:
    """Real (..., 2N), real parts first, as complex (..., N)."""
    real, imaginary = pairs.chunk(2, -1)
    return torch.complex(real, imaginary)


def _reflected(h: Tensor, mirror: Tensor) -> Tensor:
    """(I − 2 v v*) h for a unit vector v."""
    return h - 2.0 * (h @ mirror.conj())[..., None] * mirror
