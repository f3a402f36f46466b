"""Replicas' answers to the same requests, checked and counted: what the measures are computed from."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranker.divergence.bits import Array
from ranker.errors import UserError

Answers = Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]]


@dataclass(frozen=True, eq=False, repr=False)
class RequestBatch:
    """Scores by M replicas of N requests' candidates, R rows in all, request after request.

    Rows of a request are in ascending item id, which is the tie-break of every order. Nothing is dropped:
    what a replica did not answer well is in `valid` and in the counts.

    Attributes:
        replicas: M names, distinct.
        requests: ids of the requests [N].
        offsets: rows of request n are offsets[n]..offsets[n + 1], int64 [N + 1].
        items: item id of each row [R].
        scores: probabilities, float64 [M, R]; 0 where missing or invalid.
        valid: bool [M, N], the replica scored each candidate once with a probability.
        answered: bool [M, N], the replica answered the request at all.
        mismatched: bool [M, N], answered with an item missing or duplicated.
        invalid: int64 [M, N], scores that are NaN, infinite or outside [0, 1].
        rows: position of each row in the builder's input, int64 [R] (of its first mention in `from_answers`).
    """

    replicas: tuple[str, ...]
    requests: Array
    offsets: Array
    items: Array
    scores: Array
    valid: Array
    answered: Array
    mismatched: Array
    invalid: Array
    rows: Array

    def __repr__(self) -> str:
        return (
            f"<RequestBatch of {', '.join(self.replicas)}: {len(self):,} requests, {len(self.items):,} rows>"
        )

    @staticmethod
    def from_rows(
        request: ArrayLike,
        item: ArrayLike,
        scores: ArrayLike,
        *,
        replicas: Sequence[str] | None = None,
        answered: ArrayLike | None = None,
    ) -> "RequestBatch":
        """Group aligned rows, in any order, by request.

        Args:
            request: request id of each row [R], integers or strings.
            item: item id of each row [R], integers or strings.
            scores: probabilities [M, R], one row a replica.
            replicas: M names; default "0", "1", ...
            answered: bool [M, R], False where a replica gave no score (then not an `invalid_score`).

        Raises:
            UserError: lengths differ, names repeat.

        Example:
            >>> batch = RequestBatch.from_rows([7, 7, 8], [1, 2, 1], [[.1, .2, .3], [.1, float("nan"), .4]])
            >>> batch.valid.tolist(), batch.invalid_score.tolist()
            ([[True, True], [False, True]], [0, 1])
        """
        values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
        owner, ids = np.asarray(request), np.asarray(item)
        rows = len(owner)
        if owner.shape != (rows,) or ids.shape != (rows,) or values.shape[1:] != (rows,):
            shapes = f"request {owner.shape}, item {ids.shape}, scores {values.shape}"
            raise UserError(f"`request` [R], `item` [R], `scores` [M, R] must agree on R. Received: {shapes}")
        scored = np.asarray(np.ones(values.shape) if answered is None else answered, dtype=bool)
        if scored.shape != values.shape:
            shapes = f"{scored.shape} for {values.shape}"
            raise UserError(f"`answered` must have the shape of `scores`. Received: {shapes}")
        names = _names(replicas, len(values))
        requests, code = np.unique(owner, return_inverse=True)
        order = np.arange(rows)
        if not ((code[1:] > code[:-1]) | (code[1:] == code[:-1]) & (ids[1:] >= ids[:-1])).all():
            order = np.lexsort((ids, code))
            code, ids, scored, values = code[order], ids[order], scored[:, order], values[:, order]
        repeated = np.zeros(rows, dtype=bool)
        repeated[1:] = (code[1:] == code[:-1]) & (ids[1:] == ids[:-1])
        return _checked(
            replicas=names,
            ids=requests,
            code=code,
            item=ids,
            scores=values,
            scored=scored,
            repeated=repeated & scored,
            rows=order,
        )

    @staticmethod
    def from_answers(
        answers: Answers, *, requested: tuple[ArrayLike, ArrayLike] | None = None
    ) -> "RequestBatch":
        """Align what each replica answered on its own: the candidates are the union over the replicas.

        Args:
            answers: replica -> (request ids [r], item ids [r], probabilities [r]), in any order.
            requested: (request ids, item ids) sent, so that a candidate without any score counts as missing.

        Raises:
            UserError: lengths differ within a replica, no replica.

        Example:
            >>> batch = RequestBatch.from_answers({"a": ([1, 1], [5, 6], [0.1, 0.2]), "b": ([1], [6], [0.3])})
            >>> batch.items.tolist(), batch.coverage_mismatch.tolist()
            ([5, 6], [0, 1])
        """
        if not answers:
            raise UserError("`answers` must name at least one replica. Received: none")
        parts = [tuple(np.asarray(x) for x in answer) for answer in answers.values()]
        for name, part in zip(answers, parts, strict=True):
            if any(x.shape != part[0].shape or x.ndim != 1 for x in part):
                raise UserError(
                    f"the answer of `{name}` must be three arrays of one length. "
                    f"Received: {[x.shape for x in part]}"
                )
        keys = [part[:2] for part in parts] + (
            [tuple(np.asarray(x) for x in requested)] if requested is not None else []
        )
        ids, code = np.unique(np.concatenate([key[0] for key in keys]), return_inverse=True)
        names, item = np.unique(np.concatenate([key[1] for key in keys]), return_inverse=True)
        pair, first, row = np.unique(code * len(names) + item, return_index=True, return_inverse=True)
        scores = np.zeros((len(parts), len(pair)))
        count = np.zeros((len(parts), len(pair)), dtype=np.int64)
        start = 0
        for m, part in enumerate(parts):
            columns = row[start : start + len(part[0])]
            scores[m, columns] = part[2]
            count[m] = np.bincount(columns, minlength=len(pair))
            start += len(part[0])
        code, item = np.divmod(pair, max(len(names), 1))
        return _checked(
            replicas=tuple(answers),
            ids=ids,
            code=code,
            item=names[item],
            scores=scores,
            scored=count > 0,
            repeated=count > 1,
            rows=first,
        )

    def __len__(self) -> int:
        return len(self.requests)

    @property
    def sizes(self) -> Array:
        """Candidates of each request, int64 [N]."""
        return np.diff(self.offsets)

    @property
    def coverage_mismatch(self) -> Array:
        """Requests that a replica answered with an item missing or duplicated, int64 [M]."""
        return self.mismatched.sum(axis=1)

    @property
    def invalid_score(self) -> Array:
        """Scores of a replica that are no probability, int64 [M]."""
        return self.invalid.sum(axis=1)

    def take(self, requests: ArrayLike) -> "RequestBatch":
        """The chosen requests (bool [N] or positions): a slice by a feature of the request."""
        chosen = np.arange(len(self))[np.asarray(requests)]
        sizes = self.sizes[chosen]
        rows = np.repeat(self.offsets[:-1][chosen] - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
        return self._rebuilt(chosen, sizes, rows)

    def take_rows(self, rows: ArrayLike) -> "RequestBatch":
        """Only the chosen candidates (bool [R], in the order of `items`): a slice by a feature of the item.

        Requests left without a candidate leave; validity stays that of the full answers.
        """
        keep = np.flatnonzero(np.asarray(rows, dtype=bool))
        owner = np.repeat(np.arange(len(self)), self.sizes)[keep]
        chosen, sizes = np.unique(owner, return_counts=True)
        return self._rebuilt(chosen, sizes, keep)

    def blocks(self, cells: int = 1 << 22) -> Iterator[Array]:
        """Positions of requests of similar size; a padded block has at most about `cells` item pairs."""
        by_size = np.argsort(self.sizes, kind="stable")
        sizes = np.maximum(self.sizes[by_size], 1)
        start = 0
        while start < len(by_size):
            # the last request is the largest: a block of j requests costs j times its size squared
            cost = np.arange(1, len(sizes) - start + 1) * sizes[start:] * (-(-sizes[start:] // 64) * 64)
            stop = start + max(int(np.searchsorted(cost, cells, side="right")), 1)
            yield by_size[start:stop]
            start = stop

    def padded_rows(self, requests: Array) -> tuple[Array, Array]:
        """Rows [n, K] of the requests, K the most candidates any has, and which are present [n, K]."""
        sizes = self.sizes[requests]
        columns = np.arange(max(int(sizes.max(initial=1)), 1))
        present = columns[None, :] < sizes[:, None]
        return np.where(present, self.offsets[:-1][requests][:, None] + columns[None, :], 0), present

    def position(self, replica: str) -> int:
        """Row of a replica in `scores`.

        Raises:
            UserError: no such replica.
        """
        if replica not in self.replicas:
            raise UserError(f"no such replica among {', '.join(self.replicas)}. Received: {replica!r}")
        return self.replicas.index(replica)

    def select(self, replicas: Sequence[str]) -> "RequestBatch":
        """Only the named replicas, in the given order.

        Raises:
            UserError: no such replica.
        """
        chosen = [self.position(replica) for replica in replicas]
        return replace(
            self,
            replicas=tuple(replicas),
            scores=self.scores[chosen],
            valid=self.valid[chosen],
            answered=self.answered[chosen],
            mismatched=self.mismatched[chosen],
            invalid=self.invalid[chosen],
        )

    def _rebuilt(self, chosen: Array, sizes: Array, rows: Array) -> "RequestBatch":
        return replace(
            self,
            requests=self.requests[chosen],
            offsets=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            items=self.items[rows],
            scores=self.scores[:, rows],
            valid=self.valid[:, chosen],
            answered=self.answered[:, chosen],
            mismatched=self.mismatched[:, chosen],
            invalid=self.invalid[:, chosen],
            rows=self.rows[rows],
        )


def _names(replicas: Sequence[str] | None, count: int) -> tuple[str, ...]:
    names = tuple(str(m) for m in range(count)) if replicas is None else tuple(replicas)
    if len(names) != count or len(set(names)) != len(names):
        raise UserError(f"`replicas` must be {count} distinct names. Received: {list(names)}")
    return names


def _checked(
    replicas: tuple[str, ...],
    ids: Array,
    code: Array,
    item: Array,
    scores: Array,
    scored: Array,
    repeated: Array,
    rows: Any,
) -> RequestBatch:
    """Rows sorted by (request, item) -> batch, with what is missing, repeated or no probability counted."""
    starts = np.searchsorted(code, np.arange(len(ids)))
    with np.errstate(invalid="ignore"):
        improper = scored & ~((scores >= 0) & (scores <= 1))

    def any_of(flags: Array) -> Array:
        if flags.all() or not flags.any():  # the usual case, and much faster
            return np.full((len(replicas), len(ids)), flags.size > 0 and flags.flat[0])
        return np.logical_or.reduceat(flags, starts, axis=1)

    answered = any_of(scored)
    incomplete = answered & (any_of(~scored) | any_of(repeated))
    return RequestBatch(
        replicas=replicas,
        requests=ids,
        offsets=np.append(starts, len(code)).astype(np.int64),
        items=item,
        scores=np.where(scored & ~improper, scores, 0.0),
        valid=answered & ~incomplete & ~any_of(improper),
        answered=answered,
        mismatched=incomplete,
        invalid=np.add.reduceat(improper, starts, axis=1, dtype=np.int64)
        if improper.any()
        else np.zeros(answered.shape, dtype=np.int64),
        rows=np.asarray(rows, dtype=np.int64),
    )
