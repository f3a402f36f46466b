"""The comparison of scored files: `ranker compare`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranker.cli.options import Json, emit
from ranker.errors import UserError
from ranker.json_text import json_text

if TYPE_CHECKING:
    from ranker.scored.align import ModelScores


def compare(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Files of scored rows, one a model; or one file with a score column a model. Globs and URIs too."
        ),
    ],
    item: Annotated[str, typer.Option(help="The column that identifies a candidate.")],
    request: Annotated[
        list[str] | None,
        typer.Option(help="The column that says which rows are ranked together; repeat for several."),
    ] = None,
    score: Annotated[
        list[str] | None,
        typer.Option(help="The column of scores; with one file, repeat it: a column a model."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="The column of labels, 0 or 1.")] = None,
    scale: Annotated[
        str, typer.Option(help="What scores are: probability, logit, range:LOW:HIGH, order, or auto.")
    ] = "auto",
    k: Annotated[int, typer.Option(min=1, help="How deep the top of a list is.")] = 10,
    budget: Annotated[
        list[str] | None,
        typer.Option(metavar="MEASURE=LIMIT", help="What a measure may be; repeat for more."),
    ] = None,
    slices: Annotated[
        list[str] | None,
        typer.Option(
            "--slice",
            metavar="COLUMN",
            help="A column by whose values the measures are also given; repeat for more.",
        ),
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the report as a page.")] = None,
    output: Annotated[Path | None, typer.Option(help="Write the report as JSON.")] = None,
    as_json: Json = False,
) -> None:
    """Compare models by what they scored, wherever they were trained. Reads Parquet, CSV, JSON lines and Arrow.

    TF Serving's request logs (PredictionLog TFRecords, *.tfrecord*) are read too: columns are inputs of the call, --score
    is its output, and without --request each call is a request.

    Exit code 0: within the budget (or none given), 1: above it, 2: undecided, more requests are needed; 3: a mistake in the
    call or in a file.

    Example: ranker compare a.parquet b.parquet --request session --item sku --score p --budget top1_swap=0.05
    """
    try:
        limits = dict(_limit(text) for text in budget or [])
        try:
            from ranker.scored.align import align
            from ranker.scored.comparison import compare_aligned
        except ImportError:
            raise UserError("ranker compare needs: pip install 'steady-ranker[compare]'") from None
        from ranker.files import write_whole

        models = read_scores(
            sources=sources,
            request=request or [],
            item=item,
            score=score or [],
            label=label,
            further=slices or [],
        )
        result = compare_aligned(align(models), scale=scale, k=k, budget=limits, slices=slices or [])
        report = result.to_dict()
        if html is not None:
            write_whole(html, result.to_html())
        if output is not None:
            write_whole(output, json_text(report, indent=1, ensure_ascii=False) + "\n")
    except UserError as error:
        error.exit_code = 3
        raise
    if as_json:
        emit(report)
    else:
        print(result.sentence)
        for side in result.coverage:
            print(f"  {side.sentence}")
        for note in result.notes:
            print(f"  note: {note}")
        for name, interval in result.measures.items():
            print(f"  {name:>24}  {interval.value:.4g} ({interval.low:.4g} to {interval.high:.4g})")
        for name, reason in result.left_out.items():
            print(f"  {name:>24}  left out: {reason}")
        for part in result.slices:
            swap = result.intervals(part.comparison.means).get("top1_swap")
            shown = (
                f"top1_swap {swap.value:.4g} ({swap.low:.4g} to {swap.high:.4g})" if swap else "not compared"
            )
            print(f"  {part.column} {part.value}: {shown}, {part.requests:,} requests")
    raise typer.Exit(result.exit_code)


def read_scores(
    sources: list[str],
    request: list[str],
    item: str,
    score: list[str],
    label: str | None,
    further: Sequence[str] = (),
) -> list[ModelScores]:
    """The scores in files of rows or in request logs, a model each; arguments and errors as `read_models`."""
    try:
        from ranker.scored.files import model_names, read_models
    except ImportError:
        raise UserError("files of scored rows need: pip install 'steady-ranker[compare]'") from None

    if not any(".tfrecord" in Path(source).name for source in sources):
        return read_models(
            sources=sources, request=request, item=item, score=score, label=label, further=further
        )
    if not all(".tfrecord" in Path(source).name for source in sources) or len(sources) < 2 or len(score) > 1:
        raise UserError(
            "request logs are compared with request logs, one a model, by one output. "
            f"Received: {', '.join(sources)} and {len(score)} outputs"
        )
    from serving.prediction_logs import read_prediction_log

    output = score[0] if score else None
    return [
        read_prediction_log(
            source=source, model=name, request=request, item=item, score=output, label=label, further=further
        )
        for source, name in zip(sources, model_names(sources), strict=True)
    ]


def _limit(text: str) -> tuple[str, float]:
    name, _, limit = text.partition("=")
    try:
        return name, float(limit)
    except ValueError:
        raise UserError(f"--budget must read MEASURE=LIMIT. Received: {text!r}") from None
