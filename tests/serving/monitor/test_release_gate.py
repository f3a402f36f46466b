"""The gate: pass, fail, more requests; served and offline; JSON, JUnit and the readable report."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import numpy as np
import pytest

from ranker.errors import UserError
from serving.dashboard.queries.refreshes import gate_result
from serving.monitor.gate import Options, gate, keep
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
    assert [decision.measure for decision in result.decisions] == ["top1_swap", "pair_inversion"]


def test_a_candidate_of_another_kind_fails(fake_replica, noisy, tmp_path):
    serving = [fake_replica(name=str(seed), mangle=noisy(seed, 0.01)) for seed in range(3)]
    candidate = fake_replica(name="new", version=4, mangle=noisy(77, 0.4))
    result = gate(
        candidate.target, [fake.target for fake in serving], PROBE, Options(measures=("top1_swap",))
    )
    assert result.exit_code == 1
    tree = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert tree["verdict"] == "fail"
    assert tree["candidate"] == {"source": candidate.target, "version": 4, "answered": 60}
    assert tree["probe"] == PROBE.hash
    assert [side["version"] for side in tree["baseline"]] == [3, 3, 3]
    suite = ElementTree.fromstring(result.junit())
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "1", "0")
    assert result.report().startswith("FAIL")
    assert PROBE.hash in result.report()
    assert keep(result, tmp_path)
    found = gate_result(tmp_path)
    assert found == {**tree, "asked": found["asked"]}  # what the dashboard shows
    assert [path.name for path in tmp_path.iterdir()] == ["gate.json"]
    assert not keep(result, tmp_path / "nowhere")


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
        (Options(measures=("auc",)), "must be of"),
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
    with pytest.raises(UserError, match="same feature_spec"):
        gate(a.target, [b.target], PROBE)


def test_a_candidate_from_new_data_may_have_another_vocabulary(fake_replica):
    fakes = [fake_replica(name=n, mangle=described(vocabulary=n * 16)) for n in ("2", "1", "0")]
    fakes[2].mangle = described(vocabulary="1" * 16)
    baseline = [fake.target for fake in fakes[1:]]
    result = gate(fakes[0].target, baseline, PROBE, Options(allowance=0.1))
    assert result.exit_code == 0
    assert "different vocabularies" in result.report()
    assert f"{fakes[0].target} {'2' * 16}" in result.as_dict()["notes"][0]


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
    served._outputs = answer
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
