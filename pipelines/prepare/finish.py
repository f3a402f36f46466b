"""After the pipeline: rejected rows and statistics written out, everything counted once more, the manifest."""

from __future__ import annotations

import pickle
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipelines.prepare.clean.expectations import refuse_violations
from pipelines.prepare.clean.join import ReadTable
from pipelines.prepare.manifest import Manifest
from pipelines.prepare.plan import Plan
from pipelines.prepare.read import reading
from pipelines.prepare.remarks import (
    Limits,
    Remark,
    feature_remarks,
    join_remark,
    no_request_remark,
    rejected_remark,
)
from pipelines.prepare.rows import PLACE
from pipelines.prepare.stages import Directories, Tally, read_batch
from pipelines.prepare.write import statistics
from pipelines.prepare.write.probe import write_probe
from pipelines.prepare.write.rejects import Locator, Rejections, write_rejected
from pipelines.prepare.write.shards import Shard
from pipelines.prepare.write.vocabulary import TokenSummary
from ranker.config import Categorical
from ranker.errors import UserError
from ranker.json_text import json_text
from ranker.layout import GRADE, LABEL, REQUEST, WEIGHT
from ranker.working_copy import data_fingerprint

_NO_LABEL_SHARE = 0.1


def finish(plan: Plan, tables: dict[str, ReadTable], directories: Directories) -> Manifest:
    """Writes what is left to write.

    Args:
        plan: what was to be done.
        tables: the side tables that were read.
        directories: where the pipeline wrote.

    Returns:
        The manifest, written too.

    Raises:
        UserError: the data cannot train a model: no rows, an empty split, one class only, too many rejected.
        RuntimeError: rows were lost or doubled on their way.
    """
    work, data = directories.work, directories.data
    results = pickle.loads((work / "results.pickle").read_bytes())
    tally: Tally = Counter()
    for counted in results:
        if isinstance(counted, dict):  # some engines hand a Counter on as a plain dict
            tally.update(counted)
    shards = sorted((r for r in results if isinstance(r, Shard)), key=lambda s: (s.split, s.index))
    tokens = [result for result in results if isinstance(result, TokenSummary)]
    locator = _locator(plan, tally)
    path = data / "rejected" / "events.jsonl"
    rejections = write_rejected(_in_order(work / "rejected"), locator, path)
    counts = _counts(tally, shards, rejections)
    positives = {split: sum(s.positives for s in shards if s.split == split) for split in ("train", "eval")}
    limits = Limits(plan.experiment.data.max_rejected, plan.experiment.data.min_joined)
    split = f": {counts['train']:,} train, {counts['eval']:,} eval"
    remarks = [rejected_remark("events", counts["read"], rejections, split)]
    remarks += [table.remark for table in tables.values()]
    remarks += join_remarks(tables, tally, locator)
    train = [shard.label for shard in shards if shard.split == "train" and shard.rows]
    labels = (
        min((label.low for label in train), default=0.0),
        max((label.high for label in train), default=0.0),
    )
    _check(plan=plan, counts=counts, labels=labels, tally=tally, remarks=remarks, limits=limits)
    described = _write_statistics(plan, counts, shards, tokens, data)
    if not plan.experiment.data.has_requests:
        remarks.append(no_request_remark(counts["eval"]))
    remarks += _feature_remarks(plan, described, tally, shards)
    probe_requests = write_probe(list(work.glob("probe-*.parquet")), plan.experiment, data / "probe.parquet")
    manifest = Manifest(
        counts=counts,
        positives=positives,
        fingerprint=data_fingerprint({shard.name: shard.sha256 for shard in shards}, data),
        inputs=plan.inputs,
        schema=_schema(plan),
        shards={
            split: [
                {"name": s.name, "rows": s.rows, "records": s.records, "bytes": s.bytes, "sha256": s.sha256}
                for s in shards
                if s.split == split
            ]
            for split in ("train", "eval")
        },
        unmatched={name: tally["unmatched", name] for name in tables},
        tables={
            name: {"rows": table.rows, "rejected": table.rejections.rows} for name, table in tables.items()
        },
        reasons=dict(rejections.reasons.most_common()),
        remarks=[remark.as_dict() for remark in remarks],
        damaged=[
            {"file": opened_file.file.name, "reason": opened_file.fault}
            for opened_file in plan.events
            if opened_file.fault
        ],
        probe_requests=probe_requests,
    )
    manifest.write(data / "manifest.json")
    return manifest


def _counts(tally: Tally, shards: list[Shard], rejections: Rejections) -> dict[str, int]:
    rows = {split: sum(s.rows for s in shards if s.split == split) for split in ("train", "eval")}
    counts = {"read": tally["good",] + tally["rejected",], **rows, "rejected": tally["rejected",]}
    if tally["sampled",]:
        counts["sampled"] = tally["sampled",]
    written = rejections.rows
    if (
        counts["read"] + tally["sampled",] != counts["train"] + counts["eval"] + counts["rejected"]
        or written != counts["rejected"]
    ):
        raise RuntimeError(f"rows were lost or doubled: {counts}, {written} rejected rows were written")
    return counts


def _check(
    plan: Plan,
    counts: dict[str, int],
    labels: tuple[float, float],
    tally: Tally,
    remarks: list[Remark],
    limits: Limits,
) -> None:
    data, path = plan.experiment.data, plan.events[0].file.path
    if tally["no_label",] > _NO_LABEL_SHARE * counts["read"]:
        raise UserError(
            "data.label: must give 0 or 1, or a number between, for example 'rating >= 4' or 'rating / 5';"
            f" {tally['no_label',]:,} of {counts['read']:,} rows have another value. Received: {data.label!r}"
        )
    if counts["read"] == 0:
        raise UserError(f"{path}: no rows")
    if counts["rejected"] == counts["read"]:
        raise UserError(f"{path}: all {counts['read']:,} rows were rejected: {remarks[0]}")
    for remark in remarks:
        limits.refuse(remark)
    refuse_violations(tally, counts["read"] - counts["rejected"], plan.experiment)
    for split in ("train", "eval"):
        if counts[split] == 0:
            raise UserError(f"data.split: no row of {counts['read']:,} fell into the {split} split")
    negatives, items = data.negatives, tally["items",]
    if negatives is not None and items <= max(negatives.count, negatives.candidates):
        raise UserError(
            f"data.negatives: the training rows must have more items with a positive than count and candidates. Received:"
            f" {items:,} items, count={negatives.count}, candidates={negatives.candidates}"
        )
    low, high = labels
    if low == high:
        raise UserError(
            f"data.label: all {counts['train']:,} training rows have label {low:g}; a model needs both classes,"
            " or different soft labels."
            f" Received: {data.label!r}"
        )


def _locator(plan: Plan, tally: Tally) -> Locator:
    lines = {key[1:]: count for key, count in tally.items() if key[0] == "lines"}
    return Locator(plan.events, reading.lines_before(list(plan.events), lines))


def _in_order(directory: Path) -> Iterator[pa.RecordBatch]:
    """Batches of rejected rows such that all places increase; files overlap only with their neighbours."""
    held: pa.RecordBatch | None = None
    for path in sorted(directory.glob("*.arrow")):
        batch = read_batch(path)
        if held is not None:
            first = batch.column(PLACE)[0].as_py()
            below = int((held.column(PLACE).to_numpy() < first).sum())
            yield held.slice(0, below)
            batch = pa.concat_batches([held.slice(below), batch]).sort_by(PLACE)
        held = batch
    if held is not None:
        yield held


def join_remarks(tables: dict[str, ReadTable], tally: Tally, locator: Locator) -> list[Remark]:
    """What is to be said about each join."""
    remarks = []
    for name, table in tables.items():
        misses = [key[2:] for key in tally if key[:2] == ("first_unmatched", name)]
        example = None
        if misses:
            place, line, value = min(misses)
            file, number = locator.locate(place, line)
            example = {"file": file, "line": number, "value": value}
        unmatched = tally["unmatched", name]
        remarks.append(
            join_remark(
                name=name,
                key=table.side.key,
                rows=tally["looked_up",],
                unmatched=unmatched,
                example=example,
                keys=table.keys,
            )
        )
    return remarks


def _feature_remarks(
    plan: Plan, described: dict[str, Any], tally: Tally, shards: list[Shard]
) -> list[Remark]:
    inexact = {name: tally["inexact", name] for name in plan.experiment.features}
    held_out = [shard for shard in shards if shard.split == "eval"]
    varying = sum((shard.varying for shard in held_out), Counter())
    requests = sum(shard.requests for shard in held_out)
    return feature_remarks(described, inexact, varying, requests, plan.experiment)


def _write_statistics(
    plan: Plan, counts: dict[str, int], shards: list[Shard], tokens: list[TokenSummary], data: Path
) -> dict[str, Any]:
    summaries = {summary.feature: summary for summary in tokens}
    train = [shard for shard in shards if shard.split == "train"]
    features: dict[str, Any] = {}
    for name, feature in plan.experiment.features.items():
        missing = sum(shard.missing.get(name, 0) for shard in train)
        if isinstance(feature, Categorical) and feature.has_vocabulary:
            (data / "vocabulary" / f"{name}.txt").touch()  # a feature without any value has an empty one
            summary = summaries.get(name, TokenSummary(name, 0, (), 0))
            features[name] = {
                "kind": "categorical",
                "count": counts["train"] - missing,
                "missing": missing,
                "cardinality": summary.cardinality,
                "vocabulary": summary.size,
                "top": [list(entry) for entry in summary.top],
            }
        elif feature.kind != "numeric":
            features[name] = {
                "kind": feature.kind,
                "count": counts["train"] - missing,
                "missing": missing,
                "top": [],
            }
        else:
            features[name] = statistics.merge([s.numeric[name] for s in train if name in s.numeric]).result()
    label = statistics.merge([shard.label for shard in train]).result()
    described = {"rows": counts["train"], "label": label, "features": features}
    text = json_text(described, indent=1, ensure_ascii=False)
    (data / "statistics.json").write_text(text + "\n", encoding="utf-8")
    return described


def _schema(plan: Plan) -> dict[str, str]:
    schema = {LABEL: "float", REQUEST: "bytes"}
    if plan.experiment.data.grade is not None:
        schema[GRADE] = "float"
    if plan.experiment.data.weight is not None:
        schema[WEIGHT] = "float"
    for name, column in plan.experiment.columns.items():
        schema[name] = "float" if column.kind == "numeric" else "bytes"
    return schema
