"""End to end: replicas with known noise through measuring, store and query; what comes out must be what went in."""

from __future__ import annotations

import numpy as np
import pytest

from ranker.divergence import Settings, definition, inversion_probability
from serving.monitor.measurement.measure import measure
from serving.monitor.measurement.slices import slices
from serving.monitor.store import query
from serving.monitor.store.rollup import roll_up
from serving.monitor.store.selection import Selection
from serving.monitor.store.write import write_round

NOISE = [0.1, 0.1, 0.2, 0.1, 0.5]


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Forty minutes of rounds of five replicas, in a store."""
    from serving.monitor.store import open_store
    from tests.serving.monitor.conftest import START, Simulation

    store = open_store(tmp_path_factory.mktemp("truth") / "monitor.db")
    simulation = Simulation(NOISE, requests=80, candidates=10, seed=4)
    cut = slices(simulation.probe, ("age",))
    for minute in range(40):
        record = measure(simulation.round(START + minute * 60), Settings(), cut, {}).record
        write_round(store, record)
    roll_up(store, START + 40 * 60)
    yield store, simulation, START + 39 * 60 + 5
    store.close()


def test_components_are_the_noise_variances(watched):
    store, _, now = watched
    odd = query.odd_one_out(store, Selection(now, window=40 * 60))
    noise_by_replica = {component.replica: component.value for component in odd.components}
    for place, noise in enumerate(NOISE):
        assert noise_by_replica[f"m{place}"].value == pytest.approx(noise**2, rel=0.1, abs=0.001)
        assert noise_by_replica[f"m{place}"].low <= noise**2 <= noise_by_replica[f"m{place}"].high
    assert [component.replica for component in odd.odd] == ["m4"]


def test_inversions_are_what_the_gaps_and_the_noise_predict(watched):
    store, simulation, now = watched
    truth = simulation.truth.reshape(80, 10)
    first, second = np.triu_indices(10, 1)
    gaps = truth[:, first] - truth[:, second]
    predicted = inversion_probability(gaps, 0.1).mean()
    matrix = query.matrix(store, Selection(now, measure="pair_inversion", window=40 * 60))
    i, j = matrix.replicas.index("m0"), matrix.replicas.index("m1")
    assert matrix.values[i, j] == pytest.approx(predicted, rel=0.05)


def test_the_course_is_flat_and_the_same_at_every_resolution(watched):
    store, _, now = watched
    fine = query.lines(store, Selection.between(now - 2400, now + 60, measure="rpd_sym", points=400))
    coarse = query.lines(store, Selection.between(now - 2400, now + 60, measure="rpd_sym", points=5))
    assert [line.resolution for line in (*fine, *coarse)] == [60, 600]
    assert (
        sum(point.rounds for point in fine[0].points) == sum(point.rounds for point in coarse[0].points) == 40
    )
    values = [point.value for point in fine[0].points]
    assert max(values) - min(values) < 0.15 * np.mean(values)
    mean = sum(point.value * point.rounds for point in coarse[0].points) / 40
    assert np.mean(values) == pytest.approx(mean)


def test_repeated_rounds_do_not_narrow_the_interval(watched):
    """The same requests again and again are no new requests."""
    store, _, now = watched
    short = query.snapshot(store, Selection(now, window=60)).measures["top1_swap"]
    long = query.snapshot(store, Selection(now, window=40 * 60)).measures["top1_swap"]
    assert short.n == long.n == 80
    assert long.rounds == 40
    width = [estimate.value.high - estimate.value.low for estimate in (short, long)]
    assert width[1] > 0.8 * width[0]


def test_slices_and_ladder_and_quantiles_agree_with_the_whole(watched):
    store, _, now = watched
    whole = query.snapshot(store, Selection(now)).measures["rpd_sym"].value.value
    rows = query.slices(store, Selection(now, measure="rpd_sym"))
    assert sum(row.n for row in rows) == 80
    assert np.average([row.measured.value for row in rows], weights=[row.n for row in rows]) == pytest.approx(
        whole
    )
    rungs = {rung.level: rung for rung in query.ladder(store, Selection(now, measure="rpd_sym"))}
    assert rungs["L0"].value.value == 0
    assert rungs["L3"].pairs == 10
    assert rungs["L3"].value.value == pytest.approx(whole)
    quantiles = query.quantiles(store, Selection(now, measure="rpd_sym"))
    assert 0 < quantiles[0.5] < quantiles[0.95]
    pair = query.quantiles(store, Selection(now, measure="rpd_sym", a="m4", b="m0"))
    assert pair[0.5] > quantiles[0.5]


def test_no_interval_leaves_the_values_a_measure_can_have(sqlite_store, simulate, start):
    simulation = simulate([0.01, 0.01, 0.02], requests=6)
    write_round(
        sqlite_store,
        measure(simulation.round(start), Settings(), slices(simulation.probe, ("age",)), {}).record,
    )
    for label, estimate in query.snapshot(sqlite_store, Selection(start + 5)).measures.items():
        least, most = definition(label).bounds
        assert least <= estimate.value.low <= estimate.value.value <= estimate.value.high <= most
    assert all(
        row.measured.low >= 0 for row in query.slices(sqlite_store, Selection(start + 5, measure="top1_swap"))
    )


def test_pairs_are_found_in_either_order(watched):
    store, _, now = watched
    forward = query.lines(
        store, Selection.between(now - 600, now + 60, measure="bias", kind="pair", a="m0", b="m4")
    )
    back = query.lines(
        store, Selection.between(now - 600, now + 60, measure="bias", kind="pair", a="m4", b="m0")
    )
    assert forward == back
    assert (
        len(query.lines(store, Selection.between(now - 600, now + 60, measure="bias", kind="pair", a="m4")))
        == 4
    )


def test_intervals_cover_the_truth(simulate, start):
    """Fresh requests in each repetition; 95% intervals of the overall PD must hold the long-run mean at about 95%."""
    covered, values = 0, []
    intervals = []
    for seed in range(120):
        simulation = simulate([0.2, 0.2, 0.2], requests=40, seed=seed)
        record = measure(simulation.round(start), Settings(), (), {}).record
        (statistics,) = [s for key, s in record.statistics.items() if key.kind == "all"]
        intervals.append(statistics["pd_logit"].interval())
        values.append(statistics["pd_logit"].value)
    truth = 2 * 0.2 / np.sqrt(np.pi)  # E|l_a - l_b| for two normals of deviation 0.2
    covered = sum(low <= truth <= high for _, low, high in intervals)
    assert np.mean(values) == pytest.approx(truth, rel=0.02)
    assert covered >= 107  # 1 in 1,000 for a true coverage of 95%


@pytest.mark.parametrize(
    "call",
    [
        lambda store, now: query.lines(store, Selection.between(now, now - 60, measure="rpd_sym")),
        lambda store, now: query.lines(
            store, Selection.between(now - 60, now, measure="rpd_sym", points=100_000)
        ),
        lambda store, now: query.matrix(store, Selection(now, measure="nothing")),
    ],
)
def test_questions_without_an_answer_are_one_line(watched, call):
    from ranker.errors import UserError

    store, _, now = watched
    with pytest.raises(UserError, match="Received"):
        call(store, now)


def test_an_empty_store_answers_every_question(sqlite_store, start):
    assert query.freshness(sqlite_store, Selection(start)).time is None
    assert query.snapshot(sqlite_store, Selection(start)).measures == {}
    assert query.matrix(sqlite_store, Selection(start, measure="rpd_sym")).replicas == ()
    assert query.lines(sqlite_store, Selection.between(start - 60, start, measure="rpd_sym")) == ()
    assert query.slices(sqlite_store, Selection(start, measure="rpd_sym")) == ()
    assert query.odd_one_out(sqlite_store, Selection(start)).components == ()
    assert query.ladder(sqlite_store, Selection(start, measure="rpd_sym")) == ()
    assert query.quantiles(sqlite_store, Selection(start, measure="rpd_sym")) == {}
    assert query.replicas(sqlite_store, Selection(start)) == ()
    assert query.alerts(sqlite_store) == ()
    assert query.events(sqlite_store, Selection.between(0, start)) == ()
    assert query.measures(sqlite_store, Selection(start)) == ()
    assert query.coverage(sqlite_store, Selection(start)) == {}
    assert query.totals(sqlite_store) == ((), ())
