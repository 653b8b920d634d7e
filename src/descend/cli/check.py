"""``descend check``: check gradients and optimality."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated

import typer

from descend.cli.options import (
    AllowImports,
    Assignments,
    Data,
    Device,
    Json,
    RecipeFile,
    RunFolder,
    Seed,
    Target,
)
from descend.cli.output import answering, people

if TYPE_CHECKING:
    from descend.training.derivatives import DerivativeCheck

__all__ = ["app"]

GRADIENTS_EXAMPLES = (
    "\b\nExamples:\n"
    "  descend check gradients digits\n"
    "  descend check gradients houses.csv --target price --recipe mine.toml --allow-imports\n"
    "\nExit status: 0 all derivatives agree, 2 invalid input, 3 a derivative disagrees"
)
OPTIMALITY_EXAMPLES = (
    "\b\nExamples:\n"
    "  descend check optimality runs/houses\n"
    "  descend check optimality runs/houses --tolerance 1e-3 --json"
)

app = typer.Typer(
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

MEANING = {
    "minimum": "the gradient vanishes and no curvature is negative: the conditions of a minimum hold",
    "saddle": "the gradient vanishes, and along some direction the loss decreases",
    "not stationary": "the gradient norm exceeds --tolerance: training could continue",
    "infeasible": "a constraint is violated by more than its tolerance",
    "undecided": "no negative curvature was found, but more products (--products) are needed to rule it out",
}


@app.callback(invoke_without_command=True)
def check(context: typer.Context) -> None:
    """Check gradients or optimality."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command(epilog=OPTIMALITY_EXAMPLES, short_help="Check whether a trained network is at a minimum.")
def optimality(
    run: RunFolder,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="The training data.  [default: those the run recorded]", show_default=False
        ),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="The gradient norm up to which a point counts as stationary.")
    ] = 1e-4,
    products: Annotated[
        int, typer.Option(min=1, help="The maximum number of products with the Hessian.")
    ] = 200,
    device: Device = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
) -> None:
    """Compute the gradient and the extreme eigenvalues of the Hessian of the training loss at a run's weights.

    The computation uses double precision, without dropout and augmentation. With general constraints, the conditions are
    those of Karush, Kuhn and Tucker. The run is not changed.
    """
    with answering(as_json) as answer:
        from descend.runs.checks import optimality_of
        from descend.runs.run import load

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
        if found.constraints is not None:
            listed = ", ".join(f"{each:.4g}" for own in found.multipliers for each in own)
            console.print(
                "Gradient and curvature are those of the Lagrangian, the curvature along the active constraints."
            )
            console.print(f"  violation            {found.constraints.violation:.3g}")
            console.print(f"  complementarity      {found.constraints.complementarity:.3g}")
            console.print(f"  multipliers          {listed}, by least squares", soft_wrap=True)
        answer({"run": str(run), "tolerance": tolerance, **dataclasses.asdict(found)})


@app.command(epilog=GRADIENTS_EXAMPLES, short_help="Check the derivatives of a recipe's objective.")
def gradients(
    data: Data,
    target: Target = None,
    recipe: RecipeFile = None,
    assignments: Assignments = None,
    rows: Annotated[int, typer.Option(min=1, help="The maximum number of rows.")] = 32,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="The relative error up to which derivatives agree.")
    ] = 1e-4,
    seed: Seed = None,
    device: Device = None,
    allow_imports: AllowImports = False,
    as_json: Json = False,
) -> None:
    """Compare the gradient used in training with automatic differentiation and with finite differences of the loss.

    The computation uses double precision, near the initial weights, in training mode. Every module, the loss and the
    penalties are also checked separately, so that a wrong derivative is located.
    """
    with answering(as_json) as answer:
        from descend.cli.train import requested_recipe
        from descend.runs.checks import check_gradients

        found = check_gradients(
            data,
            requested_recipe(recipe, assignments or [], allow_imports),
            rows=rows,
            tolerance=tolerance,
            seed=seed or 0,
            target=target,
            device=device,
            allow_imports=allow_imports,
        )
        console = people()
        names = [each.name for each in found.parameters] + [each.name for each in found.modules]
        width = max(map(len, names))
        console.print(
            f"loss {found.loss:.6g}; relative errors of the derivatives, by parameter and by module"
        )
        console.print(f"  {'':{width}}    norm     training's  differences")
        for parameter in found.parameters:
            mark = "" if parameter.agrees else "   WRONG"
            console.print(
                f"  {parameter.name:{width}}  {parameter.norm:9.3g}  {parameter.analytic_error:9.1e}  "
                f"{parameter.numeric_error:9.1e}{mark}",
                soft_wrap=True,
            )
        for module in found.modules:
            mark = "" if module.agrees else "   WRONG"
            console.print(
                f"  {module.name:{width}}  {'':9}  {'':9}  {module.error:9.1e}  {module.kind}{mark}"
            )
        console.print(_verdict(found))
        answer(
            {
                "agrees": found.agrees,
                "culprits": [each.name for each in found.culprits],
                **dataclasses.asdict(found),
            }
        )
    if not found.agrees:
        raise typer.Exit(3)


def _verdict(found: DerivativeCheck) -> str:
    if found.agrees:
        return f"all agree within {found.tolerance:g}"
    wrong = ", ".join(f"{each.name} ({each.kind})" for each in found.culprits)
    if wrong:
        return f"wrong derivative in: {wrong}"
    names = ", ".join(each.name for each in found.parameters if not each.agrees)
    return f"every module is correct on its own, but the derivatives with respect to these parameters are wrong: {names}"
