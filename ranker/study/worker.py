"""Trains jobs and saves the predictions of their replicas: in this process, or in several worker processes."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np

from ranker.architecture import Architecture, design
from ranker.config import Experiment, Training, fingerprint
from ranker.errors import UserError
from ranker.files import replacing, temporary_directory
from ranker.json_text import json_text
from ranker.mitigation import Learned, cost, learn, predict, serving
from ranker.study.data import StudyData, StudySource
from ranker.study.points import Job, StudyPoint
from ranker.training import threads
from ranker.training.rows.examples import Examples
from ranker.training.step.finite import NotFiniteError
from ranker.training.step.program import Program
from ranker.training.step.stacking import Member, stack
from ranker.training.trainer import train


def path(cache: Path, point: StudyPoint) -> Path:
    """The file of a point's predictions."""
    return cache / f"{point.key}.npz"


def run(jobs: Sequence[tuple[StudyData, Job]], cache: Path, processes: int) -> Iterator[Job]:
    """Trains all jobs; yields each job when its predictions are saved.

    Processes, not threads: TensorFlow's threads get in each other's way where a step takes a millisecond (two threads
    are 1.4 times as fast as one on two cores, two processes twice), and the arithmetic of each stays that of one alone.

    Args:
        jobs: what to train on which rows of one run.
        cache: where predictions are kept.
        processes: how many jobs at a time; a single one runs here.

    Raises:
        UserError: a process died.
    """
    if min(processes, len(jobs)) <= 1:
        workers = Workers(cache)
        for data, job in jobs:
            workers.worker(data).train(job)
            yield job
        return
    spawn = multiprocessing.get_context("spawn")
    with (
        temporary_directory() as directory,
        ProcessPoolExecutor(processes, spawn, _begin, (cache, directory)) as pool,
    ):
        coming = {pool.submit(_train, data.source, job): job for data, job in jobs}
        try:
            for done in as_completed(coming):
                done.result()
                yield coming[done]
        except BrokenProcessPool:
            raise UserError(
                "a process that trains replicas died (out of memory?); run the command again: it continues where it stopped"
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class Workers:
    """One process's workers, one for the rows of each source. They share what is compiled.

    Args:
        cache: a directory for predictions.
    """

    def __init__(self, cache: Path):
        self._cache = cache
        self._compiled: dict[str, Program] = {}
        self._workers: dict[str, Worker] = {}

    def worker(self, rows: StudyData | StudySource) -> Worker:
        """The worker on these rows; a source is loaded when it is first asked for."""
        source = rows if isinstance(rows, StudySource) else rows.source
        key = fingerprint(str(source.run), source.rows, asdict(source.change))
        if key not in self._workers:
            data = rows.load() if isinstance(rows, StudySource) else rows
            self._workers[key] = Worker(data, self._cache, self._compiled)
        return self._workers[key]


class Worker:
    """Trains one job after the other.

    Args:
        data: the rows.
        cache: a directory for predictions.
        compiled: programs over inputs like these, by shape; see `stack`.
    """

    def __init__(self, data: StudyData, cache: Path, compiled: dict[str, Program]):
        self._data, self._cache, self._compiled = data, cache, compiled
        self._serving: dict[str, float] = {}

    def train(self, job: Job) -> None:
        """Trains a job's replicas and saves their predictions."""
        self._save(self._stack(job) if job[0][0].recipe.mitigation is None else self._recipe(job[0]))

    def _stack(self, courses: Job) -> list[tuple[StudyPoint, Learned]]:
        averaged = [[p.recipe.training for p in c if _averages(p.recipe.training)] for c in courses]
        trainings = [
            averages[0] if averages else c[0].recipe.training
            for averages, c in zip(averaged, courses, strict=True)
        ]
        members = [
            Member(self._architecture(c[0].recipe), training, c[0].seeds, tuple(averages))
            for c, training, averages in zip(courses, trainings, averaged, strict=True)
        ]
        program = stack(members, compiled=self._compiled)
        seeds = [m.seeds for m in members]
        names = [f"recipe {c[0].name}" for c in courses]
        trained = train(program, self._data.train, trainings, seeds, averages=averaged, names=names)
        seconds = trained.seconds / len(courses)
        learned = []
        for replica, loss, averages, course in zip(
            program.programs, trained.loss, averaged, courses, strict=True
        ):
            for point in course:
                at = averages.index(point.recipe.training) if _averages(point.recipe.training) else None
                learned.append((point, Learned(replica.weights(at), loss, trained.steps, seconds)))
        return learned

    def _recipe(self, points: Sequence[StudyPoint]) -> list[tuple[StudyPoint, Learned]]:
        recipe, source = points[0].recipe, self._data.source
        seeds = [p.seeds for p in points]
        names = [f"recipe {p.name}" for p in points]
        learned = learn(recipe, source.run, self._architecture(recipe), self._data.train, seeds, names=names)
        for result, name in zip(learned, names, strict=True):
            if result.failure:
                raise NotFiniteError(name, result.failure, recipe.training.optimizer.learning_rate)
        return list(zip(points, learned, strict=True))

    def _architecture(self, recipe: Experiment) -> Architecture:
        return design(self._data.inputs, recipe.model)

    def _save(self, learned: Sequence[tuple[StudyPoint, Learned]]) -> None:
        for point, learned_point in learned:
            architecture = self._architecture(point.recipe)
            price = cost(architecture, learned_point, self._serving_time(point.recipe, learned_point))
            scores = predict(architecture, learned_point.components, self._data.eval)
            with replacing(path(self._cache, point)) as temporary, temporary.open("wb") as file:
                np.savez(file, scores=scores, cost=json_text(asdict(price)))

    def _serving_time(self, recipe: Experiment, learned: Learned) -> float:
        kind = fingerprint(recipe.model, recipe.mitigation and recipe.mitigation.model_dump(mode="json"))
        if kind not in self._serving:
            request = _typical_request(self._data)
            self._serving[kind] = serving(self._architecture(recipe), learned, request)
        return self._serving[kind]


def _averages(training: Training) -> bool:
    return training.average_last > 0 or training.ema > 0


def _typical_request(data: StudyData) -> Examples:
    sizes = np.bincount(data.request)
    rows = np.flatnonzero(data.request == int(np.argmin(np.abs(sizes - np.median(sizes[sizes > 0])))))
    part = {name: getattr(data.eval, name).numpy()[rows] for name in ("ids", "dense", "label", "weight")}
    return Examples(**part)


_here: Workers
"""This process's, where it is one of several."""


def _begin(cache: Path, directory: Path) -> None:
    global _here
    # TensorFlow writes files that a process removes at its end, which a pool's processes do not come to.
    tempfile.tempdir = str(directory)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A pool's processes wait for ever for work from a parent that was killed.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    threads.use(1, 1)
    _here = Workers(cache)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _train(source: StudySource, job: Job) -> None:
    _here.worker(source).train(job)
