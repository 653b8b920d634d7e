"""``descend check``: questions about an objective that need derivatives."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from descend.cli.options import AllowImports, Device, Json, RunFolder
from descend.cli.output import answering, people

__all__ = ["app"]

OPTIMALITY_EXAMPLES = (
    "\b\nExamples:\n"
    "  descend check optimality runs/houses\n"
    "  descend check optimality runs/houses --tolerance 1e-3 --json"
)

app = typer.Typer(
    rich_markup_mode=None,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

MEANING = {
    "minimum": "the gradient vanishes and no curvature is negative: the conditions of a minimum hold",
    "saddle": "the gradient vanishes, and along some direction the loss still falls",
    "not stationary": "the gradient is larger than --tolerance: training could go on",
    "undecided": "no negative curvature was found, but more products (--products) are needed to rule it out",
}


@app.callback()
def check() -> None:
    """Check an objective by its derivatives."""


@app.command(epilog=OPTIMALITY_EXAMPLES, short_help="Is a trained network at a minimum?")
def optimality(
    run: RunFolder,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="What it was trained on.  [default: as the run noted]", show_default=False
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="The gradient's norm up to which weights are stationary.")
    ] = 1e-4,
    products: Annotated[int, typer.Option(min=1, help="Products with the Hessian, at most.")] = 200,
    device: Device = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
) -> None:
    """Measure the gradient and the Hessian's extreme eigenvalues of the whole training loss at a run's weights.

    In double precision, without dropout and augmentation. The run is not changed.
    """
    with answering(as_json) as answer:
        from descend.checking import optimality_of
        from descend.run import load

        trained = load(run, allow_imports=allow_imports)
        found = optimality_of(
            trained, data, tolerance=tolerance, limit=products, device=device, allow_imports=allow_imports
        )
        console = people()
        console.print(f"{found.verdict}: {MEANING[found.verdict]}")
        console.print(f"  loss                 {found.loss:.6g}")
        console.print(f"  norm of the gradient {found.gradient_norm:.3g}")
        console.print(f"  eigenvalues from     {found.smallest:.3g} to {found.largest:.3g}")
        console.print(f"  each within          {found.error:.1g}, by {found.products} products")
        answer({"run": str(run), "tolerance": tolerance, **dataclasses.asdict(found)})
