"""Rungs between "asked twice" and "retrained": what differs where one model is trained or served on another kind of machine.

A rung is one pair of replicas of equal seeds. Each kind of machine is a process of its own, since instruction sets, oneDNN
and threads are chosen when TensorFlow is loaded.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ranker import __version__
from ranker.config import Experiment, dump, fingerprint
from ranker.errors import UserError
from ranker.files import temporary_directory
from ranker.json_text import json_text
from ranker.study.data import StudyData
from ranker.study.measured import MeasuredRecipe
from ranker.study.options import Report
from ranker.study.recipes import RELU, SMELU

PLATFORMS: dict[str, tuple[dict[str, str], int]] = {
    "SSE4.2": ({"XLA_FLAGS": "--xla_cpu_max_isa=SSE4_2", "ONEDNN_MAX_CPU_ISA": "SSE41"}, 1),
    "AVX2": ({"XLA_FLAGS": "--xla_cpu_max_isa=AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2"}, 1),
    "oneDNN off": ({"TF_ENABLE_ONEDNN_OPTS": "0"}, 1),
    "two threads": ({}, 2),
}
"""Kind of machine to its environment and threads; the first of each pair has neither limit, and one thread."""

_ROWS, _QUICK_ROWS = 100_000, 20_000
"""Training rows at most."""

_IN_ONE_PROCESS = (
    ("serving", "asked twice", "again"),
    ("serving", "in calls of another size", "other batches"),
    ("serving", "TensorFlow Lite, float32", "TFLite float32"),
    ("serving", "TensorFlow Lite, float16 weights", "TFLite float16"),
    ("serving", "TensorFlow Lite, int8 weights", "TFLite int8 weights"),
    ("serving", "TensorFlow Lite, int8", "TFLite int8"),
    ("training", "retrained, same seeds", "retrained"),
    ("training", "bfloat16", "bfloat16"),
    ("seeds", "other order", "order"),
    ("seeds", "other initialisation and order", "both"),
)


def measure(
    experiment: Experiment, run_dir: Path, data: StudyData, quick: bool, report: Report
) -> list[dict[str, Any]]:
    """Trains and serves ReLU and SmeLU on every kind of machine that this one can be.

    Args:
        experiment: the recipe.
        run_dir: a prepared run.
        data: its rows; the processes train on at most 100,000 of them.
        quick: one kind of machine, and no second worker.
        report: gets a line of progress now and then.

    Returns:
        A row a rung and activation, without those that TensorFlow Lite cannot compute in whole numbers; of each kind of
        rung the largest relative prediction difference last.

    Raises:
        UserError: a process failed.
    """
    platforms = dict(list(PLATFORMS.items())[:1]) if quick else PLATFORMS
    rows = training_rows(data, quick)
    with temporary_directory() as directory:
        (directory / "config.yaml").write_text(dump(experiment), encoding="utf-8")

        def start(
            task: str, name: str, environment: Mapping[str, str], threads: int
        ) -> subprocess.Popen[str]:
            job = {
                "task": task,
                "name": name,
                "run": str(run_dir.resolve()),
                "rows": rows,
                "threads": threads,
            }
            (directory / "job.json").write_text(json_text(job), encoding="utf-8")
            return subprocess.Popen(
                [sys.executable, "-m", "ranker.study.rung_worker", str(directory)],
                env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", **environment},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )

        report("rungs: this kind of machine")
        _finish(start("first", "first", {}, 1), "first")
        for platform, (environment, threads) in platforms.items():
            report(f"rungs: {platform}")
            _finish(start("platform", platform, environment, threads), platform)
        if not quick:
            report("rungs: two workers")
            cluster = {"worker": [f"127.0.0.1:{port}" for port in _free_ports(2)]}
            workers = [
                start(
                    "multi_worker",
                    "workers",
                    {"TF_CONFIG": json_text({"cluster": cluster, "task": task})},
                    1,
                )
                for task in ({"type": "worker", "index": 0}, {"type": "worker", "index": 1})
            ]
            for worker in workers:
                _finish(worker, "two workers")
        return _rows(directory, data, list(platforms), not quick, report)


def key(experiment: Experiment, data: StudyData, quick: bool) -> str:
    """A fingerprint of what `measure` computes from."""
    return fingerprint(
        "rungs",
        experiment.model,
        experiment.training,
        experiment.replicas,
        data.fingerprint,
        quick,
        __version__,
    )


def training_rows(data: StudyData, quick: bool) -> int:
    """How many rows the processes train on."""
    return min(int(data.train.label.shape[0]), _QUICK_ROWS if quick else _ROWS)


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What may be mixed without anybody noticing, and what is noticed how much, beside another order of the rows."""
    of_rung: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        of_rung.setdefault(row["rung"], {})[row["activation"]] = row
    mixed = {r: by for r, by in of_rung.items() if all(row["kind"] != "seeds" for row in by.values())}
    unnoticed = {r: by for r, by in mixed.items() if not any(row["top1_swap"] for row in by.values())}
    sentences = []
    if unnoticed:
        largest = max((row for by in unnoticed.values() for row in by.values()), key=lambda r: r["rpd_sym"])
        sentences.append(
            f"No request's first item changes by these, with either activation: {'; '.join(unnoticed)}. The largest "
            f"relative prediction difference among them is {largest['rpd_sym']:.1e} ({largest['rung']})."
        )
    noticed = {r: by for r, by in mixed.items() if r not in unnoticed}
    sentences += [
        f"{rung[0].upper()}{rung[1:]}: {_said(by)}."
        for rung, by in sorted(
            noticed.items(), key=lambda item: max(r["top1_swap"] for r in item[1].values())
        )
    ]
    sentences += [
        f"For comparison, {rung}: {_said(by)}." for rung, by in of_rung.items() if rung not in mixed
    ]
    return sentences


def _said(row_by_activation: Mapping[str, Mapping[str, Any]]) -> str:
    return "; ".join(
        f"{activation} has another first item in {row['top1_swap']:.1%} of the requests, a relative prediction difference "
        f"of {row['rpd_sym']:.2g}"
        for activation, row in sorted(row_by_activation.items())
    )


def _finish(process: subprocess.Popen[str], name: str) -> None:
    _, errors = process.communicate()
    if process.returncode:
        reason = errors.strip().splitlines()[-1] if errors.strip() else f"exit code {process.returncode}"
        raise UserError(f"rungs: the process of {name!r} failed: {reason}")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for bound in sockets:
        bound.bind(("127.0.0.1", 0))
    ports = [bound.getsockname()[1] for bound in sockets]
    for bound in sockets:
        bound.close()
    return ports


def _rows(
    directory: Path, data: StudyData, platforms: list[str], workers: bool, report: Report
) -> list[dict[str, Any]]:
    def scores_of(name: str) -> dict[str, np.ndarray]:
        with np.load(directory / f"scores-{name}.npz") as saved:
            return dict(saved)

    first = scores_of("first")
    rungs = [(kind, rung, first, key) for kind, rung, key in _IN_ONE_PROCESS]
    for platform in platforms:
        scores = scores_of(platform)
        rungs += [
            ("serving", f"served on: {platform}", scores, "served"),
            ("training", f"trained and served on: {platform}", scores, "trained"),
        ]
    if workers:
        rungs.append(("training", "trained by two workers", scores_of("workers"), "trained"))
    rows = []
    for kind, rung, scores, key in rungs:
        for member in (RELU, SMELU):
            if f"{member.label}/{key}" not in scores:
                report(f"rungs: left out: {rung}, {member.label}: TensorFlow Lite cannot compute it")
                continue
            pair = np.stack([first[f"{member.label}/first"], scores[f"{member.label}/{key}"]])
            measured = MeasuredRecipe(data, np.ones(len(data.label), bool), pair)
            pd, swap = measured.interval("rpd_sym"), measured.interval("top1_swap")
            rows.append(
                {
                    "kind": kind,
                    "rung": rung,
                    "activation": member.label,
                    "rpd_sym": pd.value,
                    "rpd_low": pd.low,
                    "rpd_high": pd.high,
                    "top1_swap": swap.value,
                    "swap_low": swap.low,
                    "swap_high": swap.high,
                    **measured.user_measures(),
                    "auc": float(measured.aucs[1]),
                }
            )
    order = ("serving", "training", "seeds")
    return sorted(rows, key=lambda row: (order.index(row["kind"]), row["rpd_sym"]))
