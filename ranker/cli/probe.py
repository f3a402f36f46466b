"""Probe requests for models of any origin: `ranker probe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ranker.cli.options import Json, emit
from ranker.errors import UserError
from ranker.json_text import json_text

if TYPE_CHECKING:
    import pyarrow as pa


def probe(
    sources: Annotated[
        list[str], typer.Argument(help="Files of rows, a row a candidate; or TF Serving's request logs.")
    ],
    item: Annotated[str, typer.Option(help="The column that identifies a candidate.")],
    request: Annotated[
        list[str] | None,
        typer.Option(help="The column that says which rows are ranked together; repeat for several."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="The column of labels, 0 or 1.")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(help="A column to send to the models; default: all but the request's and the label."),
    ] = None,
    exclude: Annotated[list[str] | None, typer.Option(help="A column not to send.")] = None,
    text: Annotated[
        list[str] | None, typer.Option(help="A column that is text although it holds numbers.")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="How many requests at most.")] = 1000,
    output: Annotated[
        Path, typer.Option(help="The Parquet file to write, or a file of JSON lines (.jsonl).")
    ] = Path("probe.parquet"),
    as_json: Json = False,
) -> None:
    """Sample requests for `ranker monitor --probe` from rows (Parquet, CSV, JSON lines, Arrow) or request logs.

    In TF Serving's request logs (PredictionLog TFRecords, *.tfrecord*) columns are inputs of the call, and without
    --request each call is a request.

    Example: ranker probe log.parquet --request session --item sku --label clicked --exclude score
    """
    import pyarrow.parquet as pq

    from ranker.files import replacing, write_whole
    from ranker.scored.probe import probe_table

    rows, ids = _read(sources, request or [], item, [item, *(text or [])], requests)
    column_names = rows.column_names
    named = [
        item,
        *(feature or []),
        *(exclude or []),
        *(text or []),
        *([label] if label is not None else []),
    ]
    unknown = [name for name in named if name not in column_names]
    if unknown:
        raise UserError(f"there must be a column {', '.join(unknown)}. Received: {', '.join(column_names)}")
    dropped = {*(request or []), label, *(exclude or [])}
    features = feature or [name for name in column_names if name not in dropped]
    features = [name for name in features if name not in (exclude or [])]
    table = probe_table(rows, ids, item, features, label=label, text=text or [], count=requests)
    try:
        if output.suffix in (".jsonl", ".ndjson"):
            write_whole(
                output, "".join(f"{json_text(row, ensure_ascii=False)}\n" for row in table.to_pylist())
            )
        else:
            with replacing(output) as temporary:
                pq.write_table(table, temporary, compression="zstd")
    except OSError as error:
        raise UserError(
            f"--output must be a file that can be written. Received: {output} ({error.strerror})"
        ) from None
    sampled, columns = (
        len(table["request"].unique()),
        [name for name in table.column_names if name != "request"],
    )
    if as_json:
        emit({"file": str(output), "requests": sampled, "candidates": len(table), "columns": columns})
    else:
        print(f"{output}: {sampled} requests, {len(table)} candidates; columns {', '.join(columns)}")


def _read(
    sources: list[str], request: list[str], item: str, texts: list[str], count: int
) -> tuple[pa.Table, pa.ChunkedArray]:
    import pyarrow as pa

    logs = [".tfrecord" in Path(source).name for source in sources]
    if any(logs) and not all(logs):
        raise UserError(f"request logs and files of rows must not be mixed. Received: {', '.join(sources)}")
    if any(logs):
        from serving.prediction_logs import read_logged_requests

        parts = [read_logged_requests(source, request, item, count) for source in sources]
        rows = pa.concat_tables([part[0] for part in parts], promote_options="permissive")
        return rows, pa.chunked_array([chunk for part in parts for chunk in part[1].chunks])
    from ranker.scored.files import read_table, request_ids

    tables = [read_table(source, None, [*request, *texts]) for source in sources]
    rows = pa.concat_tables(tables, promote_options="permissive")
    absent = [name for name in request if name not in rows.column_names]
    if absent:
        raise UserError(
            f"there must be a column {', '.join(absent)}. Received: {', '.join(rows.column_names)}"
        )
    return rows, request_ids(rows, request)
