"""Unitary evolution recurrent neural network (uRNN).

The hidden state h is complex. At each step it is multiplied by a unitary matrix, a product of seven factors,

    W = D₃ R₂ F⁻¹ D₂ Π R₁ F D₁,

with D diagonal, D_jj = exp(i θ_j); R = I − 2 v v*/‖v‖², a reflection; F the unitary discrete Fourier transform; and Π a
fixed permutation. A product with W costs O(N log N), and W has 7 N real parameters. For all parameter values ‖W h‖ = ‖h‖, so
that W does not cause gradients through T steps to vanish or explode. With x the inputs,

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

_EPS = 1e-5
"""Added to |z| in denominators."""


class UnitaryMap(nn.Module):
    """Unitary map h ↦ W h with W = D₃ R₂ F⁻¹ D₂ Π R₁ F D₁: complex (..., N) → (..., N).

    The initial angles are uniform on (−π, π), the real and imaginary parts of the reflection vectors on (−1, 1). The
    permutation is random and fixed, and is stored as a buffer.

    Args:
        units: N, at least 1.

    >>> unitary = UnitaryMap(8)
    >>> h = torch.randn(3, 8, dtype=torch.complex64)
    >>> torch.allclose(unitary(h).norm(dim=1), h.norm(dim=1))
    True
    """

    order: Tensor

    def __init__(self, units: int) -> None:
        super().__init__()
        # Vectors instead of matrices: weight decay, which applies to matrices, must not shrink the angles.
        for number in (1, 2, 3):
            angle = nn.Parameter(torch.empty(units).uniform_(-math.pi, math.pi))
            self.register_parameter(f"angle{number}", angle)
        for number in (1, 2):
            self.register_parameter(
                f"mirror{number}", nn.Parameter(torch.empty(2 * units).uniform_(-1.0, 1.0))
            )
        self.register_buffer("order", torch.randperm(units))

    def factors(self) -> tuple[Tensor, ...]:
        """Return the diagonals of D₁, D₂, D₃ and the unit vectors of R₁, R₂, complex (N,), which are the same for all steps."""
        angles = [getattr(self, f"angle{number}") for number in (1, 2, 3)]
        reflections = [_complex(getattr(self, f"mirror{number}")) for number in (1, 2)]
        phases = [torch.polar(torch.ones_like(angle), angle) for angle in angles]
        return *phases, *(vector / torch.linalg.vector_norm(vector) for vector in reflections)

    def forward(self, h: Tensor, factors: tuple[Tensor, ...] | None = None) -> Tensor:
        """Return W h; ``factors`` are the result of :meth:`factors`, which avoids computing it again at each step."""
        first, second, third, vector1, vector2 = self.factors() if factors is None else factors
        h = _reflect(torch.fft.fft(h * first, norm="ortho"), vector1)
        h = torch.fft.ifft(h[..., self.order] * second, norm="ortho")
        return _reflect(h, vector2) * third


class ModReLU(nn.Module):
    """modReLU: (|z| + b) z/|z| where |z| + b ≥ 0, and 0 elsewhere, which keeps the phase. Complex (..., N) → (..., N).

    The initial bias is 0, for which the map is the identity. For a positive bias the map is discontinuous at z = 0; it is
    replaced by a linear function within |z| < 1e-5.

    Args:
        units: N, the number of units, each with one bias.

    >>> act = ModReLU(2)
    >>> _ = nn.init.constant_(act.bias, -1.0)
    >>> act(torch.tensor([3 + 4j, 0.5 + 0j])).abs().round(decimals=3)
    tensor([4., 0.], grad_fn=<RoundBackward1>)
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(units))

    def forward(self, z: Tensor) -> Tensor:
        """Return the activations, in the shape of z."""
        modulus = z.abs()
        ratio = self.bias / modulus.clamp_min(_EPS)
        return z * torch.where(modulus + self.bias >= 0, 1.0 + ratio, torch.zeros_like(ratio))


class UnitaryRNN(nn.Module):
    """Unitary recurrent network with an output at each step: (n, T, features) → (n, T, outputs).

    The initial state h₀ is learned; its initial values are uniform with E‖h₀‖² = 1. V and U have Xavier uniform initial
    weights.

    Args:
        features: the number of inputs at each step.
        outputs: the number of raw outputs at each step.
        units: N, the number of complex units of the state. Default 128.

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
        """Return the outputs of all steps, (n, T, features) → (n, T, outputs)."""
        return self._readout(torch.stack(self.states(x), 1))

    def last(self, x: Tensor) -> Tensor:
        """Return the outputs of the last step, (n, T, features) → (n, outputs)."""
        return self._readout(self.states(x)[-1])

    def states(self, x: Tensor) -> list[Tensor]:
        """Return the states h₁, …, h_T, each complex (n, N)."""
        inputs = _complex(self.reading(x))
        factors = self.turn.factors()
        state = _complex(self.start).expand(x.shape[0], -1)
        states = []
        for step in inputs.unbind(1):
            state = self.act(self.turn(state, factors) + step)
            states.append(state)
        return states

    def _readout(self, states: Tensor) -> Tensor:
        outputs: Tensor = self.output(torch.cat([states.real, states.imag], -1))
        return outputs


class _RowsAsSequences(nn.Module):
    """A :class:`UnitaryRNN` that processes a row of any shape step by step, and returns its last output."""

    def __init__(self, inputs: tuple[int, ...], outputs: int, units: int) -> None:
        super().__init__()
        self.is_image = len(inputs) == 3
        features = {1: 1, 2: inputs[-1], 3: inputs[0]}[len(inputs)]
        self.network = UnitaryRNN(features, outputs, units)

    def forward(self, rows: Tensor) -> Tensor:
        """Return the outputs of the last step, (n, *inputs) → (n, outputs)."""
        if self.is_image:
            rows = rows.flatten(2).mT
        return self.network.last(rows[..., None] if rows.dim() == 2 else rows)


@method(
    row="G7",
    reference="Arjovsky, Shah and Bengio 2016",
    formula="h_t = modReLU(W h_(t-1) + V x_t), W = D3 R2 F^-1 D2 P R1 F D1 unitary; y = U (Re h_T, Im h_T) + c",
    note="Only modReLU and the inputs change the norm of the state. The class UnitaryRNN returns an output at each step.",
)
def unitary_rnn(inputs: tuple[int, ...], outputs: int, *, units: Count = 128) -> nn.Module:
    """Build a unitary recurrent network, which processes a row step by step with a norm-preserving recurrent matrix.

    A row of shape (T, d) is T steps of d numbers, a row of d numbers is d steps of one number, and an image (C, H, W) is
    processed pixel by pixel. The steps are sequential, so long rows are slow.
    Shapes: (n, *inputs) → (n, outputs), raw outputs after the last step.

    Args:
        inputs: the shape of one row, of one to three dimensions.
        outputs: the number of raw outputs.
        units: N, the number of complex units of the state. Default 128.

    Raises:
        UserError: ``inputs`` has no or more than three dimensions.

    >>> unitary_rnn((20, 3), 4, units=8)(torch.zeros(5, 20, 3)).shape
    torch.Size([5, 4])
    """
    if not 1 <= len(inputs) <= 3:
        raise UserError(
            f"model 'unitary_rnn': expected rows of shape (steps, features), (steps,) or (channels, height, width), "
            f"got rows of shape {inputs}"
        )
    return _RowsAsSequences(inputs, outputs, units)


def _complex(pairs: Tensor) -> Tensor:
    """Return real (..., 2N), real parts first, as complex (..., N)."""
    real, imaginary = pairs.chunk(2, -1)
    return torch.complex(real, imaginary)


def _reflect(h: Tensor, vector: Tensor) -> Tensor:
    """Return (I − 2 v v*) h for a unit vector v."""
    return h - 2.0 * (h @ vector.conj())[..., None] * vector
