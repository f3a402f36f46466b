"""deployment.yaml: what is written is what is read; mistakes are one line."""

from __future__ import annotations

import string
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker import layout
from ranker.errors import UserError
from serving.deployment import Deployment, Replica, dump, from_targets, load
from serving.run_directory import deployment_from

GOOD = {
    "model_name": "ranker",
    "feature_spec": "0123456789abcdef",
    "item": "item_id",
    "context": ["user_id", "age"],
    "candidate": ["item_id"],
    "replicas": [
        {"name": "smelu-0", "target": "127.0.0.1:8500", "path": "replicas/smelu/0", "labels": {"replica": 0}},
        {"name": "smelu-1", "target": "[::1]:8501"},
    ],
}

names = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
replicas = st.lists(
    st.builds(
        Replica,
        names,
        st.integers(1, 65535).map("host:{}".format),
        texts,
        st.dictionaries(texts, texts, max_size=3),
    ),
    min_size=1,
    max_size=5,
    unique_by=(lambda replica: replica.name, lambda replica: replica.target),
).map(tuple)


@settings(max_examples=50, deadline=None)
@given(st.builds(Deployment, names, replicas, texts, names, st.tuples(names), st.tuples(names, names)))
def test_what_is_written_is_what_is_read(tmp_path_factory, deployment):
    path = tmp_path_factory.mktemp("deployment") / "deployment.yaml"
    dump(deployment, path)
    assert load(path) == deployment
    assert [entry.name for entry in path.parent.iterdir()] == ["deployment.yaml"]


def test_the_documented_form(tmp_path):
    path = tmp_path / "deployment.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    deployment = load(path)
    assert deployment.context == ("user_id", "age")
    assert deployment.replica("smelu-0").labels == {"replica": "0"}
    assert deployment.replicas[1] == Replica("smelu-1", "[::1]:8501")
    with pytest.raises(UserError, match="it has smelu-0, smelu-1"):
        deployment.replica("relu-0")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"replicas": []}, "at least one replica"),
        ({"replicas": "smelu-0"}, "replicas: .*tuple.*'smelu-0'"),
        ({"replicas": [{"name": "a"}]}, r"replicas\[0\]\.target: required key is missing"),
        (
            {"replicas": [{"name": "a", "target": "h:1", "port": 2}]},
            r"replicas\[0\]\.port: unknown key. Received: 2",
        ),
        ({"replicas": [{"name": "a b", "target": "h:1"}]}, r"replicas\[0\]\.name: .*pattern.*'a b'"),
        ({"replicas": [{"name": "a", "target": "h:70000"}]}, "host:port.*h:70000"),
        ({"replicas": [{"name": "a", "target": 8500}]}, "host:port.*8500"),
        ({"replicas": [{"name": "a", "target": "h:1"}, {"name": "a", "target": "h:2"}]}, "their name.*a"),
        ({"replicas": [{"name": "a", "target": "h:1"}, {"name": "b", "target": "h:1"}]}, "their target.*h:1"),
        (
            {"replicas": [{"name": "a", "target": "h:1", "labels": ["x"]}]},
            r"replicas\[0\]\.labels: .*dictionary",
        ),
        ({"context": "user_id"}, "context: .*tuple.*'user_id'"),
        ({"model_name": 3}, "model_name: .*string.*3"),
        ({"item": ""}, "item: .*1 character"),
        ({"modelname": "x"}, "modelname: unknown key"),
    ],
)
def test_mistakes_name_file_key_and_value(tmp_path, change, message):
    path = tmp_path / "deployment.yaml"
    path.write_text(yaml.safe_dump(GOOD | change))
    with pytest.raises(UserError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_all_mistakes_are_said_at_once(tmp_path):
    path = tmp_path / "deployment.yaml"
    path.write_text(
        yaml.safe_dump({"modelname": "m", "item": 3, "replicas": [{"target": "h"}, {"name": "a"}]})
    )
    with pytest.raises(UserError) as caught:
        load(path)
    for part in (
        "model_name: required",
        "modelname: unknown key",
        "item: ",
        "replicas[0].name: required",
        "replicas[0].target: ",
        "'h'",
        "replicas[1].target: required",
    ):
        assert part in str(caught.value)
    path.write_text("model_name: a\nmodel_name: b\n")
    with pytest.raises(UserError, match="'model_name' is written twice"):
        load(path)


@pytest.mark.parametrize(
    ("content", "message"), [(b"{", "not valid YAML"), (b"\xff", "UTF-8"), (b"- a", "a table")]
)
def test_files_that_are_no_deployment(tmp_path, content, message):
    path = tmp_path / "deployment.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message):
        load(path)
    with pytest.raises(UserError, match="No such file"):
        load(tmp_path / "other.yaml")


def test_from_the_command_line():
    deployment = from_targets(["blue=10.0.0.1:8500", "green=ranker-1.prod.svc:8500"])
    assert [replica.name for replica in deployment.replicas] == ["blue", "green"]
    assert deployment.model_name == "ranker"
    for mistake in (["10.0.0.1:8500"], ["blue="], ["=a:1"], []):
        with pytest.raises(UserError, match=r"name=target|host:port|name: |at least one"):
            from_targets(mistake)


def test_replicas_of_the_command_line_have_the_runs_model_and_features(tmp_path):
    tree = yaml.safe_load((Path(__file__).parents[2] / "configs" / "quickstart.yaml").read_text())
    tree["serving"] = {"model_name": "another"}
    layout.config_path(tmp_path).write_text(yaml.safe_dump(tree))
    deployment = deployment_from(tmp_path, ["a=127.0.0.1:8500", "b=127.0.0.1:8501"])
    assert deployment.model_name == "another"
    assert [replica.name for replica in deployment.replicas] == ["a", "b"]
    features = tree["features"]
    assert set(deployment.context) == {name for name in features if features[name]["role"] == "context"}
    assert set(deployment.candidate) == {name for name in features if features[name]["role"] == "item"}
    assert deployment_from(tmp_path, ["a=127.0.0.1:8500"], "third").model_name == "third"
    assert deployment_from(None, ["a=127.0.0.1:8500"]).model_name == "ranker"
