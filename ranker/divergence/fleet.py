"""Many replicas: a design of pairs in place of all pairs, each replica's effect, and the mean over all pairs.

With M replicas all pairs are M (M - 1) / 2. A design is a random regular graph: every replica is in `degree` pairs, so
that what is measured grows as M. Its seed changes from round to round, so that a replica meets others each time.

The value of a pair at a request is written as the sum of the effects of its two replicas and a remainder,
h_ij = r_i + r_j + e_ij, with r from least squares over the design's pairs. Three things follow:

- Of squared differences of log-odds r_i is the replica's own noise: with independent noise the remainder has mean 0.
- Of every other measure the effects are the projection onto sums of one term a replica (Hoeffding's decomposition of
  a function of pairs). Nothing rests on the sum being exact: a swap rate is no sum, and the difference is remainder.
- In a regular design the effects add up to the same whatever pairs are drawn: only the remainder makes the mean over
  the design's pairs differ from that over all pairs. Its variance is estimated from the residuals and is added to
  that of the requests. With all pairs it is zero, and every estimate is that of all pairs.

Statements are about these replicas: an interval holds the mean over all pairs of this fleet over all requests.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ranker.divergence.bits import Array
from ranker.divergence.catalogue import Settings, measure_interval
from ranker.divergence.compare import RequestMeasures, measure_requests
from ranker.divergence.histogram import Histogram, count_buckets
from ranker.divergence.requests import RequestBatch
from ranker.divergence.statistics import Statistic, sum_rows
from ranker.errors import UserError

ALL_PAIRS_UP_TO = 16
"""Replicas up to which all pairs are worth their time."""
DEGREE = 8
"""Pairs a replica is in."""
COMPONENT = "component"
"""The label of a replica's own noise variance, log-odds squared."""
REPLICA_MEASURES = ("pd_abs", "rpd_sym", "top1_swap", "set_churn", "pair_inversion", "consensus_regret")
"""Measures, without their depths, that are estimated for each replica beside its noise."""
_TOLERANCE = 1e-13
_MOST_STEPS = 500


@dataclass(frozen=True, eq=False)
class Design:
    """Which pairs of M replicas are measured.

    Attributes:
        count: M.
        pairs: positions of the two replicas of each pair, the smaller first, int64 [P, 2].
    """

    count: int
    pairs: Array

    @staticmethod
    def complete(count: int) -> "Design":
        """All pairs."""
        return Design(count, np.stack(np.triu_indices(count, 1), axis=1))

    @staticmethod
    def regular(count: int, seed: int, degree: int = DEGREE) -> "Design":
        """A random connected graph in which every replica has `degree` pairs; all pairs where that is no fewer.

        It is the union of degree / 2 random cycles through all replicas, without an edge twice.

        Args:
            count: replicas.
            seed: another seed gives another graph.
            degree: an even number, at least 4.

        Raises:
            UserError: `degree` is odd or below 4.

        Example:
            >>> design = Design.regular(40, seed=1)
            >>> len(design.pairs), set(design.degrees.tolist())
            (160, {8})
        """
        if degree < 4 or degree % 2:
            raise UserError(f"`degree` must be an even number >= 4. Received: degree={degree}")
        # with few more replicas than pairs each, cycles without a common edge are rare
        if count <= degree + 2:
            return Design.complete(count)
        random = np.random.default_rng(seed)
        edges: Array = np.zeros(0, np.int64)
        for _ in range(degree // 2):
            edges = np.append(edges, _disjoint_cycle(random, count, edges))
        return Design(count, np.stack(np.divmod(np.sort(edges), count), axis=1))

    @cached_property
    def share(self) -> float:
        """Measured pairs of all pairs, in (0, 1]."""
        return len(self.pairs) / max(self.count * (self.count - 1) // 2, 1)

    @cached_property
    def degrees(self) -> Array:
        """Pairs that each replica is in, int64 [M]."""
        return np.bincount(self.pairs.ravel(), minlength=self.count)

    @cached_property
    def _pairs_by_replica(self) -> Array:
        """Positions of the pairs of the first replica, then of the second, and so on, int64 [2 P]."""
        return np.argsort(self.pairs.T.ravel(), kind="stable") % max(len(self.pairs), 1)

    def sum_by_replica(self, values: Array) -> Array:
        """Values of the pairs [P, N], added up over the pairs of each replica [M, N]."""
        result = np.zeros((self.count, values.shape[1]))
        paired = np.flatnonzero(self.degrees)
        if len(paired):
            starts = (np.cumsum(self.degrees) - self.degrees)[paired]
            result[paired] = np.add.reduceat(values[self._pairs_by_replica], starts, axis=0)
        return result

    def sum_of_both(self, values: Array) -> Array:
        """Values of the replicas [M, N], added up over the two replicas of each pair [P, N]."""
        return values[self.pairs[:, 0]] + values[self.pairs[:, 1]]


def _disjoint_cycle(random: np.random.Generator, count: int, taken: Array) -> Array:
    """Edges i * count + j (i < j) of a random cycle through all replicas that has none of the taken edges.

    A random order is mended: the part between an edge that is taken and another place is reversed.
    """
    while True:
        order = random.permutation(count)
        for _ in range(50 * count):
            successor = np.roll(order, -1)
            edges = np.minimum(order, successor) * count + np.maximum(order, successor)
            clashes = np.flatnonzero(np.isin(edges, taken)).tolist()
            if not clashes:
                return edges
            for p in clashes:
                # two edges of the cycle change: the one that clashes and one anywhere
                q = int(random.integers(count))
                low, high = min(p, q) + 1, max(p, q) + 1
                order[low:high] = order[low:high][::-1].copy()


def replica_effects(design: Design, values: Array, usable: Array | None = None) -> tuple[Array, Array]:
    """Each replica's effect at each request: the least squares fit of values = effect of a + effect of b.

    Conjugate gradients on the normal equations. A random regular graph keeps the ratio of their eigenvalues bounded
    (below 6 for 8 pairs a replica), so that the number of steps does not grow with the number of replicas.

    Args:
        design: the pairs.
        values: of each pair at each request, float64 [P, N].
        usable: bool [P, N], whether the pair has a value of the request; None: all.

    Returns:
        effects float64 [M, N], and bool [M, N], whether the pairs that have a value determine it (0 where not).

    Example:
        >>> design = Design.complete(3)
        >>> replica_effects(design, np.array([[2.0], [4.0], [4.0]]))[0].round(9).T.tolist()
        [[1.0, 1.0, 3.0]]
    """
    mask = np.ones(values.shape) if usable is None else usable.astype(np.float64)
    effects = _solve(design, mask, design.sum_by_replica(np.where(mask > 0, values, 0.0)))
    determined = np.ones(effects.shape, dtype=bool)
    whole = mask.all(axis=0)
    if whole.any():
        determined[:, whole] = _determined(design, np.ones((len(mask), 1)))
    if not whole.all():
        determined[:, ~whole] = _determined(design, mask[:, ~whole])
    return np.where(determined, effects, 0.0), determined


def _determined(design: Design, mask: Array) -> Array:
    """Whether the usable pairs [P, N] determine a replica's effect, bool [M, N].

    They do not where effects may change and leave the sum of every pair as it is. Of arbitrary effects the fit returns
    all but such a change.
    """
    arbitrary = np.random.default_rng(0).normal(size=(design.count, 1)) * np.ones((1, mask.shape[1]))
    fit = _solve(design, mask, design.sum_by_replica(mask * design.sum_of_both(arbitrary)))
    return np.abs(arbitrary - fit) < 1e-6


def _solve(design: Design, mask: Array, right: Array) -> Array:
    """The smallest solution of B' W B x = right for each request, W the request's usable pairs."""
    x, residual = np.zeros_like(right), right.copy()
    direction, squares = residual.copy(), (residual**2).sum(axis=0)
    enough = _TOLERANCE**2 * squares
    for _ in range(_MOST_STEPS):
        if (squares <= enough).all():
            break
        product = design.sum_by_replica(mask * design.sum_of_both(direction))
        curvature = (direction * product).sum(axis=0)
        step = np.divide(
            squares, curvature, out=np.zeros_like(squares), where=(curvature > 0) & (squares > enough)
        )
        x += step * direction
        residual -= step * product
        before, squares = squares, (residual**2).sum(axis=0)
        direction = (
            residual + np.divide(squares, before, out=np.zeros_like(squares), where=before > 0) * direction
        )
    return x


@dataclass(frozen=True, eq=False)
class FleetEstimate:
    """What a design of pairs says of a fleet.

    Attributes:
        replicas: names.
        means: label -> statistic of the mean over all pairs; its variance includes what the design leaves open.
        effects: label -> the six sums of each replica, float64 [M, 6]: `component`, and of `REPLICA_MEASURES` the
            replica's mean over its pairs with all others. Variances as in `means`.
        spread: label -> smallest and largest value of the measured pairs.
    """

    replicas: tuple[str, ...]
    means: Mapping[str, Statistic]
    effects: Mapping[str, Array]
    spread: Mapping[str, tuple[float, float]]

    def summary(self, confidence: float = 0.95) -> dict[str, dict[str, float]]:
        """Label -> {value, low, high, min, max}: the mean with its interval, and the range over the measured pairs."""
        return {
            label: {
                **measure_interval(label, statistic, confidence)._asdict(),
                "min": self.spread[label][0],
                "max": self.spread[label][1],
            }
            for label, statistic in self.means.items()
        }

    def replica(self, label: str) -> dict[str, Statistic]:
        """Replica -> statistic of one of `effects`."""
        return {
            name: Statistic.from_row(row, Histogram.empty())
            for name, row in zip(self.replicas, self.effects[label], strict=True)
        }


def measure_design(batch: RequestBatch, design: Design, settings: Settings | None = None) -> RequestMeasures:
    """Every measure of the design's pairs at every request.

    Raises:
        UserError: the design is of another number of replicas.
    """
    if design.count != len(batch.replicas):
        raise UserError(
            f"the design must be of the batch's {len(batch.replicas)} replicas. Received: of {design.count}"
        )
    return measure_requests(batch, settings, pairs=[(int(i), int(j)) for i, j in design.pairs])


def estimate_fleet(
    measured: RequestMeasures, where: Array | None = None, *, effects: bool = True
) -> FleetEstimate:
    """The fleet's means and each replica's effects from the pairs that were measured.

    Args:
        measured: of `measure_design`.
        where: bool [N], the requests to take; None: all.
        effects: also estimate each replica.
    """
    batch, settings = measured.batch, measured.settings
    chosen = np.ones(len(batch), dtype=bool) if where is None else np.asarray(where, dtype=bool)
    design = Design(len(batch.replicas), np.asarray(measured.pairs, dtype=np.int64).reshape(-1, 2))
    size = batch.sizes[chosen].astype(np.float64)
    means: dict[str, Statistic] = {}
    by_replica: dict[str, Array] = {}
    spread: dict[str, tuple[float, float]] = {}
    for label, (definition, _) in settings.measures.items() if measured.pairs else ():
        if definition.better == "zero":  # signed: pairs cancel in the mean
            continue
        usable = measured.paired[:, chosen] & (size >= definition.at_least)
        weight = {"request": np.ones_like(size), "example": size}.get(
            definition.weight, measured.prediction[:, chosen]
        )
        y = usable * weight
        x = np.where(usable, measured.values[label][:, chosen], 0.0) * y
        means[label] = _mean_over_pairs(design, x, y, usable)
        has_weight = y.sum(axis=1) > 0
        of_pairs = x[has_weight].sum(axis=1) / y[has_weight].sum(axis=1)
        spread[label] = (
            (float(of_pairs.min()), float(of_pairs.max())) if len(of_pairs) else (math.nan, math.nan)
        )
        if not effects:
            continue
        if label == "pd_logit_squared":
            by_replica[COMPONENT] = _components(design, x, y, usable)
        elif label.partition("@")[0] in REPLICA_MEASURES:
            by_replica[label] = _replica_means(design, x, y, usable)
    return FleetEstimate(batch.replicas, means, by_replica, spread)


def _mean_over_pairs(design: Design, x: Array, y: Array, usable: Array) -> Statistic:
    count = usable.sum(axis=0)
    included = count > 0
    mean_x, mean_y = (part.sum(axis=0) / np.maximum(count, 1) for part in (x, y))
    values = np.divide(mean_x, mean_y, out=np.zeros_like(mean_x), where=mean_y > 0)
    (row,) = sum_rows(mean_x[None], mean_y[None], included[None])
    variance = (remainder(design, x, y) ** 2).sum() / max(len(x), 1) ** 2
    widened = _with_variance(row[None], np.array([variance]))[0]
    return Statistic.from_row(widened, Histogram(count_buckets(values[None], included[None])[0]))


def remainder(design: Design, x: Array, y: Array) -> Array:
    """What each pair differs from the sum of its replicas' effects, in the measure's unit, float64 [P].

    Scaled so that its mean square is that of a pair that was not measured, times the share of such pairs.
    """
    weight = y.sum(axis=1)
    value = np.divide(x.sum(axis=1), weight, out=np.zeros(len(x)), where=weight > 0)[:, None]
    usable = weight[:, None] > 0
    fit, _ = replica_effects(design, value, usable)
    residual = np.where(usable, value - design.sum_of_both(fit), 0.0)[:, 0]
    pairs = int(usable.sum())
    # a pair more than there are replicas: nothing is left to estimate the remainder from, so what is there counts whole
    freedom = max(pairs - design.count, 1)
    return residual * np.sqrt((1 - min(design.share, 1.0)) * pairs / freedom)


def effect_variances(design: Design, remainders: Array, scale: Array) -> Array:
    """Variance of each replica's effect from the design's choice of pairs, float64 [M].

    The remainder of a pair has the variance c s_i s_j, with c from all pairs and s from `scale` [M]. In a random
    regular graph, which is a tree nearby, the effect of replica i has (d - 1) / (d (d - 2)) times the mean variance
    of its pairs: the diagonal of (B'B)^-1.
    """
    product = scale[design.pairs[:, 0]] * scale[design.pairs[:, 1]]
    if product.sum() <= 0:
        product = np.ones(len(product))
    constant = (remainders**2).sum() / product.sum()
    degree = np.maximum(design.degrees, 3)
    nearby = design.sum_by_replica((constant * product)[:, None])[:, 0] / np.maximum(design.degrees, 1)
    return nearby * (degree - 1) / (degree * (degree - 2))


def _components(design: Design, x: Array, y: Array, usable: Array) -> Array:
    """Sums of each replica's own noise, float64 [M, 6]."""
    effects, determined = replica_effects(design, x, usable)
    weights = np.where(determined, y.max(axis=0), 0.0)
    sums = sum_rows(np.where(determined, effects, 0.0), weights, determined)
    value = np.divide(sums[:, 1], sums[:, 3], out=np.zeros(len(sums)), where=sums[:, 3] > 0)
    # the cross term of two independent noises has a variance in proportion to the product of their variances
    scale = np.maximum(value, 0.1 * max(float(np.median(value)), float(value.mean()), 0.0))
    return _with_variance(sums, effect_variances(design, remainder(design, x, y), scale))


def _replica_means(design: Design, x: Array, y: Array, usable: Array) -> Array:
    """Sums of each replica's mean over its pairs with all others, float64 [M, 6]."""

    def mean_of(values: Array) -> tuple[Array, Array]:
        effects, determined = replica_effects(design, values, usable)
        partners = np.maximum(determined.sum(axis=0) - 1, 1)
        return effects + (effects.sum(axis=0) - effects) / partners, determined

    mean_x, determined = mean_of(x)
    weight = y.max(axis=0)
    one_weight = bool(((y == weight) | ~usable).all())
    mean_y = np.broadcast_to(weight, mean_x.shape) if one_weight else mean_of(y)[0]
    sums = sum_rows(np.where(determined, mean_x, 0.0), np.where(determined, mean_y, 0.0), determined)
    return _with_variance(sums, effect_variances(design, remainder(design, x, y), np.ones(design.count)))


def _with_variance(sums: Array, variance: Array) -> Array:
    """Rows of six sums [rows, 6] whose values have this much more variance [rows]."""
    n, weight = sums[:, 0], sums[:, 3]
    added_squares = np.where(n > 1, variance * weight**2 * (n - 1) / np.maximum(n, 1), 0.0)
    result = sums.copy()
    result[:, 2] += added_squares
    return result
