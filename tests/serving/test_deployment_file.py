"""deployment.yaml: what is written is what is read; mistakes are one line."""

from __future__ import annotations

import json
import string
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker import layout
from ranker.errors import UserError
from serving.deployment import Deployment, Replica, dump, from_targets, load
from serving.run_directory import deploy, deployment_from

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


@pytest.fixture
def run(tmp_path):
    """A run directory with two replicas, as far as `deploy` looks."""
    tree = yaml.safe_load((Path(__file__).parents[2] / "configs" / "quickstart.yaml").read_text())
    tree["replicas"]["count"] = 2
    layout.config_path(tmp_path).write_text(yaml.safe_dump(tree, sort_keys=False))
    for index in range(2):
        version = layout.replica_dir(tmp_path, next(iter(tree["arms"])), index) / "1"
        (version / "assets.extra").mkdir(parents=True)
        (version / "saved_model.pb").touch()
        keys = ("arm", "init_seed", "shuffle_seed", "data", "feature_spec", "version")
        description = dict.fromkeys(keys, "x") | {"replica": str(index)}
        (version / "assets.extra" / "replica.json").write_text(json.dumps(description))
    return tmp_path


def targets(deployment):
    return [replica.target for replica in deployment.replicas]


def test_a_second_deploy_leaves_targets_and_replicas_added_by_hand(run):
    lines = []
    first = deploy(run, report=lines.append)
    path = layout.deployment_path(run)
    moved = replace(first.replicas[1], target="rack-7:8500")
    by_hand = Replica("guest", "elsewhere:8500", labels={"arm": "theirs"})
    dump(replace(first, replicas=(first.replicas[0], moved, by_hand)), path)
    assert lines == []
    again = deploy(run, report=lines.append)
    assert targets(again) == [first.replicas[0].target, "rack-7:8500", "elsewhere:8500"]
    assert load(path) == again
    assert lines == [
        f"deployment.yaml: {moved.name} stays at rack-7:8500; the configuration says {first.replicas[1].target}"
    ]


def test_a_base_port_moves_the_runs_own_replicas_and_says_so(run):
    lines = []
    first = deploy(run, 9100)
    dump(
        replace(first, replicas=(*first.replicas, Replica("guest", "elsewhere:8500"))),
        layout.deployment_path(run),
    )
    again = deploy(run, 9200, lines.append)
    assert targets(again) == ["127.0.0.1:9200", "127.0.0.1:9201", "elsewhere:8500"]
    assert lines == [
        f"deployment.yaml: {replica.name} is at 127.0.0.1:920{place} from now on, no longer at 127.0.0.1:910{place}"
        for place, replica in enumerate(first.replicas)
    ]
    assert targets(deploy(run, report=lines.append)) == targets(again)


def test_a_new_replica_of_the_run_is_added_where_the_configuration_says(run):
    first = deploy(run, 9100)
    dump(replace(first, replicas=first.replicas[:1]), layout.deployment_path(run))
    assert targets(deploy(run)) == ["127.0.0.1:9100", "127.0.0.1:8501"]


def test_a_file_that_cannot_be_read_stays_as_it_is(run):
    layout.deployment_path(run).write_text("replicas: [")
    with pytest.raises(UserError, match=r"deployment\.yaml"):
        deploy(run)
    assert layout.deployment_path(run).read_text() == "replicas: ["
