"""Versions: policy, discovery, swap under load, broken and repaired versions, labels, reloads."""

from __future__ import annotations

import os
import shutil
import threading
import time

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.apis import model_management_pb2

from serving.server.loader import BundleLoader
from serving.server.status import ServingError
from serving.server.version_policy import (
    State,
    VersionPolicy,
    VersionView,
    aspired,
    next_step,
    parse_versions,
)
from tests.serving.server.saved_models import save_tf1
from tests.serving.server.server_client import config_text, failure
from tests.serving.server.test_server_examples import status

Code = grpc.StatusCode
TWO = np.array([[2.0]], np.float32)


def wait_until(condition, seconds=20):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "the condition never became true"
        time.sleep(0.02)


def states(client, name="m"):
    return {entry.version: entry.state for entry in status(client, name).model_version_status}


def served(client, **options):
    answer = client.predict(x=TWO, **options)
    return answer.model_spec.version.value, list(answer.outputs["y"].float_val)


def install(models, base, version, name="half_plus_two/00000001"):
    """Copies a version under a temporary name and renames it into place."""
    staged = base / f".tmp-{version}"
    shutil.copytree(models / name, staged)
    os.rename(staged, base / str(version))


@pytest.fixture
def base(models, tmp_path):
    path = tmp_path / "base"
    path.mkdir()
    install(models, path, 1)
    return path


def test_names_that_are_versions():
    names = ["1", "00000123", "007", ".tmp-5", "a", "1.5", "99999999999999999999", " 3", "-4"]
    assert parse_versions(names) == {1: "1", 123: "00000123", 7: "007", -4: "-4"}


@given(st.sets(st.integers(0, 50)), st.integers(1, 5))
def test_latest_policy_takes_the_highest(versions, count):
    chosen = aspired(versions, VersionPolicy(latest=count))
    assert chosen == sorted(versions)[-count:]


views = st.lists(
    st.builds(
        VersionView,
        st.integers(1, 9),
        st.sampled_from([State.START, State.LOADING, State.AVAILABLE, State.END]),
        st.booleans(),
    ),
    unique_by=lambda view: view.version,
)


@given(views)
def test_the_policy_never_takes_away_the_last_answering_version(versions):
    step = next_step(versions)
    if step is not None and not step.load:
        left = [v for v in versions if v.state == State.AVAILABLE and v.version != step.version]
        assert left or not any(v.aspired for v in versions)
        assert not next(v for v in versions if v.version == step.version).aspired


@given(views)
def test_the_policy_ends(versions):
    """Carrying out the steps one after another reaches a state with nothing to do, and everything wanted runs."""
    current = {v.version: v for v in versions if v.state != State.LOADING}
    for _ in range(100):
        step = next_step(list(current.values()))
        if step is None:
            break
        state = State.AVAILABLE if step.load else State.END
        current[step.version] = VersionView(step.version, state, current[step.version].aspired)
    assert next_step(list(current.values())) is None
    assert not any(v.aspired and v.state == State.START for v in current.values())


def test_a_new_version_replaces_the_old_one(serve, models, base):
    client = serve(model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.1)
    assert served(client)[0] == 1
    install(models, base, 2)
    wait_until(lambda: served(client)[0] == 2)
    wait_until(lambda: states(client) == {2: State.AVAILABLE, 1: State.END})
    assert failure(client.predict, version=1, x=TWO)[0] == Code.NOT_FOUND


def test_rollback_by_deleting_the_newest(serve, models, base):
    install(models, base, 2)
    client = serve(model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.1)
    assert served(client)[0] == 2
    os.rename(base / "2", base / ".gone")
    wait_until(lambda: served(client)[0] == 1)
    os.rename(base / ".gone", base / "2")
    wait_until(lambda: served(client)[0] == 2)


def test_no_request_fails_during_swaps(serve, models, base):
    client = serve(model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.05)
    stop, errors, seen = threading.Event(), [], set()

    def load():
        while not stop.is_set():
            try:
                seen.add(served(client)[0])
            except grpc.RpcError as error:
                errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(2, 8):
        install(models, base, version)
        wait_until(lambda version=version: version in seen)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    wait_until(lambda: sum(state == State.AVAILABLE for state in states(client).values()) == 1)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ("model_version_policy { all {} }", {1, 2, 3}),
        ("model_version_policy { latest { num_versions: 2 } }", {2, 3}),
        ("model_version_policy { specific { versions: 1 } }", {1}),
        ("", {3}),
    ],
)
def test_policies_of_the_configuration_file(serve, models, base, tmp_path, policy, expected):
    install(models, base, 2)
    install(models, base, 3)
    config = tmp_path / "models.config"
    config.write_text(config_text({"m": base}, policy))
    client = serve(model_config_file=str(config))
    wait_until(lambda: {v for v, state in states(client).items() if state == State.AVAILABLE} == expected)
    assert served(client)[0] == max(expected)
    for version in expected:
        assert served(client, version=version)[0] == version


def test_a_broken_new_version_leaves_the_old_one_serving(serve, base):
    client = serve(model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.1)
    (base / "2").mkdir()
    wait_until(lambda: states(client).get(2) == State.END)
    entry = status(client, "m", 2).model_version_status[0]
    assert entry.status.error_code == 5
    assert entry.status.error_message == (
        "Specified file path does not appear to contain a SavedModel bundle (should have a file called "
        f"`saved_model.pb`)\nSpecified file path: {base / '2'}"
    )
    assert served(client)[0] == 1


@pytest.mark.parametrize("strict", [False, True])
def test_a_repaired_version_is_tried_again_only_when_strict(serve, models, base, strict):
    client = serve(
        model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.1, strict=strict
    )
    (base / "2").mkdir()
    wait_until(lambda: states(client).get(2) == State.END)
    shutil.copytree(models / "half_plus_two/00000001", base / "2", dirs_exist_ok=True)
    if strict:
        wait_until(lambda: served(client)[0] == 2)
    else:
        time.sleep(0.5)
        assert served(client)[0] == 1


def test_loading_is_retried(serve, models, base):
    client = serve(
        model_name="m",
        model_base_path=str(base),
        file_system_poll_wait_seconds=0.1,
        max_num_load_retries=100,
        load_retry_interval_micros=100_000,
    )
    (base / "2").mkdir()
    wait_until(lambda: states(client).get(2) == State.LOADING)
    shutil.copytree(models / "half_plus_two/00000001", base / "2", dirs_exist_ok=True)
    wait_until(lambda: served(client)[0] == 2)


def test_missing_variables_fail_at_request_time_or_with_strict_at_load(serve, models, base):
    shutil.rmtree(base / "1" / "variables")
    client = serve(model_name="m", model_base_path=str(base))
    code, text = failure(client.predict, x=TWO)
    assert code == Code.FAILED_PRECONDITION
    assert "a" in text
    with pytest.raises(ServingError, match=r"variables.*missing"):
        serve(model_name="m", model_base_path=str(base), strict=True)


def test_a_start_with_a_broken_model_fails_in_tf_servings_words(serve, tmp_path):
    (tmp_path / "b" / "1").mkdir(parents=True)
    with pytest.raises(ServingError) as caught:
        serve(model_name="b", model_base_path=str(tmp_path / "b"))
    assert str(caught.value).startswith(
        "UNKNOWN: 1 servable(s) did not become available: {{{name: b version: 1} due to error: NOT_FOUND: "
    )


@pytest.mark.parametrize("damage", ["garbage", "tags"])
def test_damaged_files_have_the_loaders_errors(serve, base, damage):
    if damage == "garbage":
        (base / "1" / "saved_model.pb").write_bytes(b"\xff\xff\xff")
        expected = "DATA_LOSS: Can't parse"
    else:
        expected = "NOT_FOUND: Could not find meta graph def matching supplied tags: { other }"
    with pytest.raises(ServingError) as caught:
        serve(
            model_name="m",
            model_base_path=str(base),
            saved_model_tags="other" if damage == "tags" else "serve",
        )
    assert expected in str(caught.value)


def test_unload_waits_for_the_request_inside(serve, models, tmp_path):
    base = tmp_path / "ranker"
    base.mkdir()
    shutil.copytree(models / "ranker" / "7", base / "7")
    client = serve(model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.1)
    done = []

    def slow():
        done.append(client.predict(signature="loop", steps=np.array([3000], np.int64), timeout=60))

    thread = threading.Thread(target=slow)
    thread.start()
    shutil.copytree(models / "ranker" / "7", base / ".tmp")
    os.rename(base / ".tmp", base / "8")
    wait_until(lambda: states(client).get(8) == State.AVAILABLE)
    thread.join()
    assert done[0].model_spec.version.value == 7
    wait_until(lambda: states(client)[7] == State.END)


def test_an_emptied_base_path_unloads_and_a_missing_one_does_not(serve, base):
    client = serve(model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.1)
    os.rename(base, base.with_name("away"))
    time.sleep(0.4)
    assert served(client)[0] == 1
    base.mkdir()
    wait_until(lambda: states(client)[1] == State.END)
    assert failure(client.predict, x=TWO) == (Code.NOT_FOUND, "Servable not found for request: Latest(m)")


def reload_request(text):
    from google.protobuf import text_format

    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(text, request.config)
    return request


def test_reload_replaces_the_list(serve, models, base, tmp_path):
    client = serve(model_name="m", model_base_path=str(base))
    other = tmp_path / "other"
    save_tf1(other / "5", offset=3.0)
    answer = client.model.HandleReloadConfigRequest(reload_request(config_text({"n": other})), 30)
    assert answer.status.error_code == 0
    assert served(client, model="n") == (5, [4.0])
    wait_until(lambda: states(client)[1] == State.END)


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("", Code.INVALID_ARGUMENT, "ServerModelConfig type not supported by HandleReloadConfigRequest. Only"),
        ('model_config_list { config { name: "n" base_path: "rel" model_platform: "tensorflow" } }',
         Code.INVALID_ARGUMENT, "Expected model n to have an absolute path or URI; got base_path()=rel"),
        ('model_config_list { config { name: "n" base_path: "/a" model_platform: "tensorflow" } '
         'config { name: "n" base_path: "/b" model_platform: "tensorflow" } }',
         Code.INVALID_ARGUMENT, "Illegal to list model n multiple times in config list"),
        ('model_config_list { config { name: "n" base_path: "/a" } }',
         Code.INVALID_ARGUMENT, "Illegal setting neither ModelServerConfig::model_type"),
        ('model_config_list { config { name: "n" base_path: "/a" model_platform: "tensorflow" logging_config {} } }',
         Code.INVALID_ARGUMENT, "No request-logger-creator provided."),
    ],
)  # fmt: skip
def test_reload_mistakes_leave_everything_as_it_was(serve, base, text, code, part):
    client = serve(model_name="m", model_base_path=str(base))
    got, details = failure(client.model.HandleReloadConfigRequest, reload_request(text), 10)
    assert (got, part in details) == (code, True), details
    assert served(client)[0] == 1


def test_reload_with_a_broken_model_reports_it(serve, base, tmp_path):
    client = serve(model_name="m", model_base_path=str(base))
    (tmp_path / "b" / "1").mkdir(parents=True)
    request = reload_request(config_text({"m": base, "b": tmp_path / "b"}))
    code, text = failure(client.model.HandleReloadConfigRequest, request, 30)
    assert code == Code.UNKNOWN
    assert text.startswith(
        "1 model(s) did not become available: {{{name: b version: 1} due to error: NOT_FOUND: "
    )
    assert served(client)[0] == 1


def test_reload_of_a_model_without_versions_ends_with_its_deadline(serve, base, tmp_path):
    client = serve(model_name="m", model_base_path=str(base))
    (tmp_path / "empty").mkdir()
    request = reload_request(config_text({"m": base, "e": tmp_path / "empty"}))
    assert failure(client.model.HandleReloadConfigRequest, request, 0.5)[0] == Code.DEADLINE_EXCEEDED
    answer = client.model.HandleReloadConfigRequest(reload_request(config_text({"m": base})), 10)
    assert answer.status.error_code == 0


def labelled(base, labels, policy="model_version_policy { all {} }"):
    entries = "".join(f'version_labels {{ key: "{k}" value: {v} }} ' for k, v in labels.items())
    return config_text({"m": base}, policy + entries)


def test_labels_follow_reloads(serve, models, base, tmp_path):
    install(models, base, 2)
    config = tmp_path / "models.config"
    config.write_text(config_text({"m": base}, "model_version_policy { all {} }"))
    client = serve(model_config_file=str(config))
    wait_until(lambda: states(client) == {1: State.AVAILABLE, 2: State.AVAILABLE})
    reload = client.model.HandleReloadConfigRequest
    reload(reload_request(labelled(base, {"stable": 1, "canary": 2})), 10)
    assert (served(client, label="stable")[0], served(client, label="canary")[0]) == (1, 2)
    reload(reload_request(labelled(base, {"stable": 2})), 10)
    assert served(client, label="stable")[0] == 2
    assert failure(client.predict, label="canary", x=TWO)[0] == Code.INVALID_ARGUMENT


def test_labels_only_on_available_versions(serve, base, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(labelled(base, {"stable": 9}))
    with pytest.raises(
        ServingError, match="FAILED_PRECONDITION: Request to assign label to version 9 of model m, which"
    ):
        serve(model_config_file=str(config))
    client = serve(model_config_file=str(config), allow_version_labels_for_unavailable_models=True)
    assert failure(client.predict, label="stable", x=TWO) == (
        Code.NOT_FOUND,
        "Servable not found for request: Specific(m, 9)",
    )


def test_labels_at_start_wait_for_every_version_they_name(serve, models, base, tmp_path, monkeypatch):
    install(models, base, 2)
    load = BundleLoader.__call__

    def lower_versions_last(self, servable):
        if servable.version == 1:
            time.sleep(0.3)
        return load(self, servable)

    monkeypatch.setattr(BundleLoader, "__call__", lower_versions_last)
    config = tmp_path / "models.config"
    config.write_text(labelled(base, {"stable": 1, "canary": 2}))
    client = serve(model_config_file=str(config))
    assert (served(client, label="stable")[0], served(client, label="canary")[0]) == (1, 2)


def test_a_label_may_stay_on_a_version_that_went_away_if_allowed(serve, models, base, tmp_path):
    install(models, base, 2)
    config = tmp_path / "models.config"
    config.write_text(labelled(base, {"stable": 1}))
    client = serve(model_config_file=str(config), allow_version_labels_for_unavailable_models=True)
    reload = client.model.HandleReloadConfigRequest
    only_two = "model_version_policy { specific { versions: 2 } }"
    reload(reload_request(labelled(base, {"stable": 1}, only_two)), 10)
    wait_until(lambda: states(client) == {1: State.END, 2: State.AVAILABLE})
    reload(reload_request(labelled(base, {"stable": 1}, only_two)), 10)
    assert failure(client.predict, label="stable", x=TWO)[0] == Code.NOT_FOUND
    code, _ = failure(reload, reload_request(labelled(base, {"stable": 7}, only_two)), 10)
    assert code == Code.FAILED_PRECONDITION


def test_failed_label_keeps_the_old_map(serve, base, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(labelled(base, {"stable": 1}))
    client = serve(model_config_file=str(config))
    code, _ = failure(
        client.model.HandleReloadConfigRequest, reload_request(labelled(base, {"stable": 9})), 10
    )
    assert code == Code.FAILED_PRECONDITION
    assert served(client, label="stable")[0] == 1


def test_the_configuration_file_is_polled_and_a_bad_one_ignored(serve, base, tmp_path):
    config = tmp_path / "models.config"
    config.write_text(config_text({"m": base}))
    client = serve(model_config_file=str(config), model_config_file_poll_wait_seconds=0.1)
    config.write_text("nonsense {")
    time.sleep(0.3)
    assert served(client)[0] == 1
    other = tmp_path / "other"
    save_tf1(other / "5")
    config.write_text(config_text({"m": base, "n": other}))
    wait_until(lambda: client.server.core.manager.is_available("n", 5))
    assert served(client, model="n")[0] == 5
