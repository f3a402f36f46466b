"""The configuration: what it accepts, what it says when it does not, and that it survives a round trip."""

from pathlib import Path

import pytest
import yaml

from ranker.config import build, dump, fingerprint, load
from ranker.config.deployment import seconds
from ranker.errors import UserError
from tests.ranker.conftest import tiny_tree

CONFIGS = sorted((Path(__file__).parents[3] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_survive_a_round_trip(path, tmp_path):
    experiment = load(path)
    copy = tmp_path / "copy.yaml"
    copy.write_text(dump(experiment))
    assert load(copy) == experiment
    assert fingerprint(load(copy)) == fingerprint(experiment)


def write(tmp_path, tree):
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(tree) if isinstance(tree, dict) else tree)
    return path


def changed(**edits):
    tree = tiny_tree()
    for dotted, value in edits.items():
        *parents, last = dotted.split("__")
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


@pytest.mark.parametrize(
    ("edits", "says"),
    [
        ({"model__hiden": [8]}, ["model.hiden: unknown key"]),
        ({"model__embedding_dim": "many"}, ["model.embedding_dim:", "valid integer", "'many'"]),
        ({"training__batch_size": 0}, ["training.batch_size:", "greater than or equal to 1", "Received: 0"]),
        ({"model__activation": {"name": "smelo"}}, ["model.activation", "smelo", "smelu"]),
        ({"model__activation": {"name": "smelu", "beta": -1.0}}, ["beta", ">= 0", "-1.0"]),
        ({"model__activation": {"name": "relu", "beta": 1.0}}, ["model.activation", "beta"]),
        ({"data__label": "rating >="}, ["data.label:", "expression", "rating >="]),
        ({"data__label": "__import__('os')"}, ["data.label:", "not allowed"]),
        ({"data__split": {"by": "time"}}, ["data", "timestamp"]),
        ({"data__split": {"by": "week"}}, ["data.split", "week"]),
        ({"data__request": []}, ["data.request:", "at least 1"]),
        ({"data__events__encoding": "latin-99"}, ["data.events.encoding:", "latin-99"]),
        ({"features__user__kind": "words"}, ["features.user", "words"]),
        ({"data__item": "tags"}, ["data.item", "single-valued", "'tags'"]),
        ({"arms": {}}, ["arms", "at least one"]),
        ({"arms": {"a": {"model.embeding_dim": 3}}}, ["arms.a: model.embeding_dim: unknown key"]),
        ({"monitor__budget": {"top2_swap": 0.1}}, ["monitor.budget", "top2_swap", "top1_swap"]),
        ({"monitor__interval": "soon"}, ["monitor.interval", "60s", "'soon'"]),
        ({"replicas__vary": ["order"]}, ["replicas.vary", "order"]),
        ({"name": "a/b"}, ["name:", "a/b"]),
    ],
)
def test_mistakes_are_one_line_with_file_key_rule_and_value(edits, says, tmp_path):
    path = write(tmp_path, changed(**edits))
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    for part in says:
        assert part in message


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("NA", ("NA",)),
        ("[NULL, -1]", ("NULL", "null", "Null", "~", "-1")),
        ("['NULL', '\\N', 9.5]", ("NULL", "\\N", "9.5")),
        ("[]", ()),
    ],
)
def test_null_values_are_what_is_written(text, values, tmp_path):
    experiment = load(write(tmp_path, tiny_tree()), [f"data.events.null_values={text}"])
    assert experiment.data.events.null_values == values


def test_all_mistakes_of_a_file_are_named_at_once(tmp_path):
    edits = {f"training__{name}": "x" for name in ("batch_size", "average_last", "threads", "ema")}
    edits |= {
        "data__events__delimitr": ";",
        "data__events__null_value": ["NA"],
        "features__user__kind": "words",
    }
    edits |= {"monitor__requests": 0, "monitor__k": 0, "replicas__count": 0, "name": "a/b"}
    with pytest.raises(UserError) as raised:
        load(write(tmp_path, changed(**edits)))
    message = str(raised.value)
    assert message.count("; ") == len(edits) - 1
    assert "did you mean 'delimiter'?" in message
    assert "did you mean 'null_values'?" in message
    arms = {"a": {"training.epoch": 3}, "b": {"model.hiden": [3]}}
    with pytest.raises(
        UserError, match=r"arms.a: training.epoch: unknown key.*; arms.b: model.hiden: unknown"
    ):
        load(write(tmp_path, changed(arms=arms)))


def test_the_ending_of_a_path_says_how_to_read_it():
    from ranker.config import Source

    csv = Source(path="log/*.csv.gz")
    assert (csv.format, csv.quote, csv.delimiter) == ("delimited", '"', ",")
    assert Source(path=["a.csv", "b.csv"], quote=None).quote is None
    assert (Source(path="x.TSV.zst").delimiter, Source(path="x.tsv").quote) == ("\t", None)
    assert [
        Source(path=f"x.{end}").format for end in ("parquet", "pq", "jsonl", "ndjson", "libsvm", "svm", "dat")
    ] == [
        "parquet",
        "parquet",
        "json",
        "json",
        "libsvm",
        "libsvm",
        "delimited",
    ]
    assert [Source(path="x", format=name).format for name in ("jsonl", "svmlight", "csv")] == [
        "json",
        "libsvm",
        "delimited",
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not valid YAML"),
        ("- 1\n", "must be a table"),
        ("name: a\nname: b\n", "'name' is written twice"),
    ],
)
def test_files_that_are_no_configuration(text, says, tmp_path):
    with pytest.raises(UserError, match=says):
        load(write(tmp_path, text))
    with pytest.raises(UserError, match="cannot read"):
        load(tmp_path / "missing.yaml")


def test_overrides_win_and_are_checked(tmp_path):
    path = write(tmp_path, tiny_tree())
    experiment = load(path, ["training.epochs=4", "model.activation={name: relu}", "data.root=/somewhere"])
    assert experiment.training.epochs == 4
    assert experiment.model.activation.name == "relu"
    assert experiment.data.locate("x.csv") == "/somewhere/x.csv"
    assert experiment.data.locate("s3://bucket/x.csv") == "s3://bucket/x.csv"
    for bad in ["training.epochs", "=3", "name.deep=1", "name={a"]:
        with pytest.raises(UserError, match="--set"):
            load(path, [bad])
    with pytest.raises(UserError, match=r"training\.epoch: unknown key"):
        load(path, ["training.epoch=3"])


def test_arms_are_the_experiment_with_their_overrides():
    tree = changed(arms={"smelu": {}, "deep": {"model.hidden": [8, 8], "training.epochs": 2}})
    experiment = build(tree, "tiny")
    assert experiment.deployed_arm == "smelu"
    assert experiment.arm("deep").model.hidden == (8, 8)
    assert experiment.arm("deep").training.epochs == 2
    assert experiment.arm("smelu").model == experiment.model
    assert fingerprint(experiment.arm("deep").model) != fingerprint(experiment.model)


@pytest.mark.parametrize(("text", "value"), [("500ms", 0.5), ("60s", 60), (5, 5), ("2h", 7200), ("1.5m", 90)])
def test_durations(text, value):
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "-1s", "0", True, "1 week", None])
def test_durations_that_are_none(text):
    with pytest.raises(ValueError, match="duration"):
        seconds(text)
