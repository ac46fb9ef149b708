"""``fer-bench compare``, ``report`` and ``schema``: what to do with results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from fer_bench.cli import options
from fer_bench.cli.app import app


@app.command()
def compare(
    before: options.SavedResult,
    after: options.SavedResult,
    min_effect: Annotated[
        float, typer.Option(help="least relevant change of p50, as a share", min=0, max=10)
    ] = 0.05,
    fail_on: Annotated[
        Literal["slower", "any", "never"], typer.Option(help="when the exit code is 1")
    ] = "slower",
) -> None:
    """Say which differences between two results exceed the noise.

    A row is slower or faster when the bootstrap interval of its ratio excludes 1 and the ratio is
    at least --min-effect away from it; the same when the whole interval lies within; else unclear.
    """
    from fer_bench.report.render import show_comparison
    from fer_bench.results.compare import compare as compare_results
    from fer_bench.results.files import read_result

    with options.failures(2):
        comparison = compare_results(read_result(before), read_result(after), min_effect=min_effect)
    show_comparison(comparison, options.console())
    failing = {"slower": {"slower"}, "any": {"slower", "faster"}, "never": set()}[fail_on]
    if any(difference.verdict in failing for difference in comparison.differences):
        raise typer.Exit(1)


@app.command()
def report(
    result: options.SavedResult,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="PAGE.html")] = None,
) -> None:
    """Print a saved result, or write it as one self-contained HTML page."""
    from fer_bench.report import render
    from fer_bench.results.files import read_result

    options.check_writable(output)
    with options.failures(2):
        read = read_result(result)
        if output is None:
            render.show_result(read, options.console())
        else:
            output.write_text(render.to_html(read), encoding="utf-8")


@app.command()
def schema() -> None:
    """Print the JSON schema of a result."""
    from fer_bench.results.files import schema as of_result

    print(json.dumps(of_result(), indent=2))
