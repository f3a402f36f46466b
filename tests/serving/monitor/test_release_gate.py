"""The gate: pass, fail, more requests; served and offline; JSON, JUnit and the readable report."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from xml.etree import ElementTree

import grpc
import numpy as np
import pytest

from ranker.errors import UserError
from ranker.json_text import json_text
from serving import wire
from serving.dashboard.queries.refreshes import gate_answers
from serving.monitor.judgement.gate import gate
from serving.monitor.judgement.gate_result import Options, save_result
from tests.serving.conftest import fake_score
from tests.serving.monitor.conftest import small_probe
from tests.serving.monitor.test_collect_faults import described

PROBE = small_probe(requests=60, candidates=6)


def test_a_candidate_that_differs_as_replicas_do_passes(fake_replica, noisy):
    fakes = [fake_replica(name=str(seed), mangle=noisy(seed, 0.1)) for seed in range(4)]
    result = gate(
        fakes[0].target,
        [fake.target for fake in fakes[1:]],
        PROBE,
        Options(margin=2.0, measures=("top1_swap", "pair_inversion", "set_churn")),
    )
    assert result.verdict.value == "pass"
    assert result.exit_code == 0
    assert result.baseline_kind == "replicas"
    # of lists no longer than k nothing can leave the top k
    assert [(d.measure, d.verdict.value) for d in result.decisions] == [
        ("top1_swap", "pass"),
        ("pair_inversion", "pass"),
        ("set_churn@10", "stands aside"),
    ]
    assert "no request has more than 6 candidates" in result.report()
    assert result.more_requests is None


def test_many_baselines_are_compared_by_a_design_of_pairs(fake_replica, noisy):
    fakes = [fake_replica(name=str(seed), mangle=noisy(seed, 0.1)) for seed in range(19)]
    baselines = [fake.target for fake in fakes[1:]]
    options = Options(margin=2.0, measures=("pair_inversion",))
    result = gate(fakes[0].target, baselines, PROBE, options)
    assert (result.exit_code, result.baseline_kind) == (0, "replicas")
    fakes[0].mangle = noisy(77, 0.6)
    assert gate(fakes[0].target, baselines, PROBE, options).exit_code == 1


def test_a_candidate_of_another_kind_fails(fake_replica, noisy, tmp_path):
    serving = [fake_replica(name=str(seed), mangle=noisy(seed, 0.01)) for seed in range(3)]
    candidate = fake_replica(name="new", version=4, mangle=noisy(77, 0.4))
    result = gate(
        candidate.target, [fake.target for fake in serving], PROBE, Options(measures=("top1_swap",))
    )
    assert result.exit_code == 1
    tree = json.loads(json_text(result.as_dict()))
    assert tree["verdict"] == "fail"
    assert tree["candidate"] == {
        "source": candidate.target,
        "version": 4,
        "fingerprint": "",
        "asked": 60,
        "answered": 60,
        "coverage": 1.0,
        "left_out": {},
    }
    assert tree["probe"] == PROBE.hash
    assert [side["version"] for side in tree["baseline"]] == [3, 3, 3]
    suite = ElementTree.fromstring(result.junit())
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("5", "1", "0")
    assert result.report().startswith("FAIL")
    assert PROBE.hash in result.report()
    assert save_result(result, tmp_path, 1_700_000_000.25)
    assert save_result(result, tmp_path, 1_700_000_000.5)
    assert [path.name for path in sorted((tmp_path / "gates").iterdir())] == [
        "20231114T221320.250000Z.json",
        "20231114T221320.500000Z.json",
    ]
    newest, older = gate_answers(tmp_path)  # what the dashboard shows
    assert newest == {**tree, "time": 1_700_000_000.5}
    assert older["time"] == 1_700_000_000.25
    assert not save_result(result, tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_too_few_requests_ask_for_more(fake_replica, noisy):
    fakes = [fake_replica(name=str(seed), mangle=noisy(seed, 0.1)) for seed in range(3)]
    few = small_probe(requests=4, candidates=6)
    result = gate(
        fakes[0].target,
        [fake.target for fake in fakes[1:]],
        few,
        Options(margin=0.3, measures=("top1_swap",)),
    )
    assert result.exit_code == 2
    assert result.more_requests > 0
    assert str(result.more_requests) in result.report()
    assert ElementTree.fromstring(result.junit()).get("errors") == "1"


def test_one_baseline_is_held_to_its_own_floor_and_the_allowance(fake_replica, noisy):
    serving, candidate = fake_replica(name="old"), fake_replica(name="new", mangle=noisy(5, 0.1))
    strict = gate(candidate.target, [serving.target], PROBE, Options(measures=("top1_swap",)))
    assert strict.baseline_kind == "floor"
    assert strict.exit_code == 1
    lenient = gate(candidate.target, [serving.target], PROBE, Options(measures=("top1_swap",), allowance=0.9))
    assert lenient.exit_code == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(measures=("auc",)), "must have labels"),
        (Options(measures=("gauc",)), "must be of"),
        (Options(measures=("rbo_ext",)), "lower is steadier"),
        (Options(measures=("bias",)), "lower is steadier"),
    ],
)
def test_measures_that_the_gate_cannot_take(fake_replica, options, says):
    a, b = fake_replica(name="a"), fake_replica(name="b")
    with pytest.raises(UserError, match=says):
        gate(a.target, [b.target], PROBE, options)


def test_sources_that_cannot_be_asked(fake_replica, tmp_path):
    fake, gone = fake_replica(name="a"), fake_replica(name="gone")
    gone.stop()
    for candidate, baseline, says in (
        (fake.target, [], "at least one baseline"),
        (fake.target, [fake.target], "different"),
        (gone.target, [fake.target], "down 60"),
        (str(tmp_path / "nothing"), [fake.target], "SavedModel"),
    ):
        with pytest.raises(UserError, match=says):
            gate(candidate, baseline, PROBE)


def test_models_with_other_features_are_not_compared(fake_replica):
    a = fake_replica(name="a", mangle=described(feature_spec="1" * 16))
    b = fake_replica(name="b", mangle=described(feature_spec="2" * 16))
    with pytest.raises(UserError, match="same schema"):
        gate(a.target, [b.target], PROBE)


def test_a_candidate_from_new_data_may_have_another_vocabulary(fake_replica):
    fakes = [fake_replica(name=n, mangle=described(vocabulary=n * 16)) for n in ("2", "1", "0")]
    fakes[2].mangle = described(vocabulary="1" * 16)
    baseline = [fake.target for fake in fakes[1:]]
    result = gate(fakes[0].target, baseline, PROBE, Options(allowance=0.1))
    assert result.exit_code == 0
    assert "different vocabularies" in result.report()
    assert f"{fakes[0].target} {'2' * 16}" in result.as_dict()["notes"][0]


def failing(fake, share, change):
    """Makes a fake answer a share of its scoring calls wrongly: `change` of the scores, float32 [n, 1]."""
    calls = itertools.count()

    def mangle(response):
        if not isinstance(response, wire.PredictResponse) or "score" not in response.outputs:
            return response
        if next(calls) % 100 < 100 * share:
            scores = change(wire.to_array(response.outputs["score"]))
            response.outputs["score"].CopyFrom(wire.to_tensor(np.asarray(scores, np.float32)))
        return response

    fake.mangle = mangle
    return fake


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda scores: scores * np.nan, "invalid_score"),
        (lambda scores: scores + np.inf, "invalid_score"),
        (lambda scores: scores + 2, "invalid_score"),
        (lambda scores: scores[:-1], "coverage_mismatch"),
    ],
)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_candidate_that_does_not_answer_all_requests_fails(fake_replica, change, kind, share):
    serving = [fake_replica(name=name) for name in "ab"]
    candidate = failing(fake_replica(name="new"), share, change)
    options = Options(measures=("top1_swap",), allowance=1.0)
    result = gate(candidate.target, [fake.target for fake in serving], PROBE, options)
    assert result.exit_code == 1
    coverage = result.candidate.coverage
    assert (coverage.asked, set(coverage.left_out)) == (60, {kind})
    assert coverage.answered == result.requests == 60 - coverage.left_out[kind].requests
    assert coverage.left_out[kind].first in PROBE.requests
    assert coverage.words in result.report()
    assert "more requests" not in result.report()
    assert "nan" not in result.report().replace("no request was compared", "")
    json.loads(json_text(result.as_dict()))
    loose = gate(
        candidate.target, [fake.target for fake in serving], PROBE, replace(options, min_coverage=0.1)
    )
    assert loose.exit_code == (1 if share == 1.0 else 0)


def test_a_baseline_that_does_not_answer_all_requests_fails_too(fake_replica):
    broken = failing(fake_replica(name="a"), 0.3, lambda scores: scores * np.nan)
    result = gate(
        fake_replica(name="new").target,
        [broken.target, fake_replica(name="b").target],
        PROBE,
        Options(measures=("top1_swap",), allowance=1.0),
    )
    assert result.exit_code == 1
    assert [decision.verdict.value for decision in result.coverage] == ["pass", "fail", "pass"]
    assert broken.target in result.coverage[1].reason


def test_errors_of_the_server_are_named(fake_replica):
    candidate = fake_replica(name="new", error=(grpc.StatusCode.INTERNAL, "no"), error_count=31)
    result = gate(
        candidate.target,
        [fake_replica(name=name).target for name in "ab"],
        PROBE,
        Options(measures=("top1_swap",), allowance=1.0),
    )
    assert result.exit_code == 1
    assert result.candidate.coverage.asked - result.candidate.coverage.answered >= 29
    assert set(result.candidate.coverage.left_out) == {"error"}


def test_a_candidate_that_is_itself_a_baseline_is_noticed(fake_replica):
    one, two = fake_replica(name="a"), fake_replica(name="b")
    port = one.target.rpartition(":")[2]
    with pytest.raises(UserError, match="another model than the baselines"):
        gate(f"localhost:{port}", [one.target, two.target], PROBE)
    same = described(fingerprint="f" * 16, feature_spec="1" * 16)
    new, old = fake_replica(name="new", mangle=same), fake_replica(name="old", mangle=same)
    options = Options(measures=("top1_swap",), allowance=1.0)
    assert "itself a baseline" in gate(new.target, [old.target, two.target], PROBE, options).notes[0]
    new.version = 9
    assert not gate(new.target, [old.target, two.target], PROBE, options).notes[1:]


def labelled(probe, seed=0):
    """The probe with labels that the fakes' scores predict."""
    rng = np.random.default_rng(seed)
    scores = np.array([fake_score(item.encode()) for item in probe.items])
    return replace(probe, labels=(rng.random(len(scores)) < 0.1 + 0.8 * scores).astype(np.float64))


def test_quality_that_is_surely_worse_fails_and_the_same_quality_passes(fake_replica, noisy):
    probe = labelled(small_probe(requests=150, candidates=6))
    serving = [fake_replica(name=str(seed), mangle=noisy(seed, 0.02)) for seed in range(2)]
    baseline = [fake.target for fake in serving]
    options = Options(measures=("auc", "logloss", "ndcg@3", "ndcg"), quality_margin=0.03)
    good = gate(fake_replica(name="good", mangle=noisy(9, 0.02)).target, baseline, probe, options)
    assert {d.measure: d.verdict.value for d in good.decisions} == {
        "auc": "pass",
        "logloss": "pass",
        "ndcg@3": "pass",
        "ndcg@10": "pass",
    }
    bad = gate(fake_replica(name="bad", mangle=noisy(9, 0.9)).target, baseline, probe, options)
    assert {d.measure: d.verdict.value for d in bad.decisions} == dict.fromkeys(
        ["auc", "logloss", "ndcg@3", "ndcg@10"], "fail"
    )
    assert "worse by" in bad.report()


def test_quality_is_part_of_the_default_where_there_are_labels(fake_replica):
    fakes = [fake_replica(name=name).target for name in "abc"]
    plain = gate(fakes[0], fakes[1:], PROBE, Options(allowance=1.0))
    assert [d.measure for d in plain.decisions] == ["top1_swap", "set_churn@10", "consensus_regret"]
    quality = gate(fakes[0], fakes[1:], labelled(PROBE), Options(allowance=1.0))
    assert [d.measure for d in quality.decisions][3:] == ["auc", "logloss", "ndcg@10"]
    alike = replace(PROBE, labels=np.ones(len(PROBE.items)))
    aside = gate(fakes[0], fakes[1:], alike, Options(measures=("auc", "ndcg", "logloss")))
    assert [d.verdict.value for d in aside.decisions][:2] == ["stands aside", "stands aside"]


def test_measures_that_cannot_decide_anything_are_a_mistake_of_the_call(fake_replica):
    fakes = [fake_replica(name=name).target for name in "abc"]
    with pytest.raises(UserError, match="no measure can decide: set_churn@10 stands aside"):
        gate(fakes[0], fakes[1:], PROBE, Options(measures=("set_churn",)))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two SavedModels, base paths with one version each, that score by the length of names and a factor."""
    from ranker.backend import tf

    root = tmp_path_factory.mktemp("models")
    for name, shift in (("one", 0.0), ("two", 0.3)):
        module = tf.Module()

        @tf.function(
            input_signature=[
                tf.TensorSpec([None], tf.string, "item_id"),
                tf.TensorSpec([None], tf.float32, "age"),
            ]
        )
        def score(item_id, age, shift=shift):
            hashed = tf.cast(tf.strings.to_hash_bucket_fast(item_id, 97), tf.float32) / 97.0
            value = tf.sigmoid(hashed * 4 - 2 + age / 100 + shift * tf.sin(hashed * 50))
            return {"score": value[:, None]}

        module.score = score
        tf.saved_model.save(module, str(root / name / "7"), signatures={"serving_default": score})
    return root


def test_saved_models_offline_score_as_they_are_served(saved, fake_replica):
    from ranker.backend import tf

    function = tf.saved_model.load(str(saved / "one" / "7")).signatures["serving_default"]

    def answer(signature, inputs):
        output = function(item_id=tf.constant(inputs["item_id"]), age=tf.constant(inputs["age"]))["score"]
        return {"score": np.asarray(output)}

    served = fake_replica(name="served", signatures=("serving_default",))
    served.outputs = answer
    offline = gate(str(saved / "two"), [served.target], PROBE, Options(measures=("top1_swap",)))
    same = gate(
        str(saved / "one" / "7"), [served.target], PROBE, Options(measures=("top1_swap",), allowance=0.1)
    )
    assert offline.exit_code == 1
    assert (offline.candidate.version, same.exit_code) == (7, 0)
    assert same.decisions[0].candidate.value == 0.0


def test_saved_models_only(saved):
    result = gate(
        str(saved / "one"),
        [str(saved / "two"), str(saved / "two" / "7")],
        PROBE,
        Options(measures=("top1_swap",)),
    )
    assert result.exit_code == 1  # the two baselines are one model: they differ by nothing
    assert result.decisions[0].baseline.value == 0.0
    with pytest.raises(UserError, match="must be a server"):
        gate(str(saved / "one"), [str(saved / "two")], PROBE)


def test_a_probe_without_the_models_inputs(saved):
    lacking = small_probe()
    del lacking.columns["age"]
    with pytest.raises(UserError, match="Missing"):
        gate(str(saved / "one"), [str(saved / "two"), str(saved / "two" / "7")], lacking)
