"""Versions: policy, discovery, swap under load, broken and repaired versions, unloading."""

from __future__ import annotations

import os
import shutil
import threading

import grpc
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.server.models.source import FileSystemSource
from serving.server.models.version_policy import (
    State,
    VersionPolicy,
    VersionView,
    aspired,
    next_step,
    parse_versions,
)
from serving.status import StatusError
from tests.processes import wait_until
from tests.serving.server.saved_models import install
from tests.serving.server.server_client import TWO, Code, config_text, failure, served, states, status


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
        remaining = [v for v in versions if v.state == State.AVAILABLE and v.version != step.version]
        assert remaining or not any(v.aspired for v in versions)
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
    stop, errors, versions = threading.Event(), [], set()

    def load():
        while not stop.is_set():
            try:
                versions.add(served(client)[0])
            except grpc.RpcError as error:
                errors.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for version in range(2, 8):
        install(models, base, version)
        wait_until(lambda version=version: version in versions)
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


@pytest.fixture
def polls(monkeypatch):
    """One entry for each look at the base paths that has ended."""
    ended = []
    poll = FileSystemSource.poll

    def counted(self):
        poll(self)
        ended.append(self)

    monkeypatch.setattr(FileSystemSource, "poll", counted)
    return ended


@pytest.mark.parametrize("strict", [False, True])
def test_a_repaired_version_is_tried_again_only_when_strict(serve, models, base, strict, polls):
    client = serve(
        model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.1, strict=strict
    )
    (base / "2").mkdir()
    wait_until(lambda: states(client).get(2) == State.END)
    shutil.copytree(models / "half_plus_two/00000001", base / "2", dirs_exist_ok=True)
    if strict:
        wait_until(lambda: served(client)[0] == 2)
    else:
        before = len(polls)
        wait_until(lambda: len(polls) > before + 2)
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
    with pytest.raises(StatusError, match=r"variables.*missing"):
        serve(model_name="m", model_base_path=str(base), strict=True)


def test_a_start_with_a_broken_model_fails_in_tf_servings_words(serve, tmp_path):
    (tmp_path / "b" / "1").mkdir(parents=True)
    with pytest.raises(StatusError) as caught:
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
    with pytest.raises(StatusError) as caught:
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


def test_an_emptied_base_path_unloads_and_a_missing_one_does_not(serve, base, caplog):
    client = serve(model_name="m", model_base_path=str(base), file_system_poll_wait_seconds=0.1)
    os.rename(base, base.with_name("away"))
    wait_until(lambda: "Could not find base path" in caplog.text)
    assert served(client)[0] == 1
    base.mkdir()
    wait_until(lambda: states(client)[1] == State.END)
    assert failure(client.predict, x=TWO) == (Code.NOT_FOUND, "Servable not found for request: Latest(m)")
