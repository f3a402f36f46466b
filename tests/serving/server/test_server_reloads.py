"""A changed list of models: by a reload request, by the polled configuration file."""

from __future__ import annotations

from threading import Event, Timer

import grpc
import pytest

from serving.server.models.version_policy import State
from tests.processes import wait_until
from tests.serving.server.saved_models import save_tf1
from tests.serving.server.server_client import Code, config_text, failure, reload_request, served, states


def test_reload_replaces_the_list(serve, models, base, tmp_path):
    client = serve(model_name="m", model_base_path=str(base))
    replacement = tmp_path / "other"
    save_tf1(replacement / "5", offset=3.0)
    answer = client.model.HandleReloadConfigRequest(reload_request(config_text({"n": replacement})), 30)
    assert answer.status.error_code == 0
    assert served(client, model="n") == (5, [4.0])
    wait_until(lambda: states(client)[1] == State.END)


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        (
            "",
            Code.INVALID_ARGUMENT,
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only",
        ),
        (
            'model_config_list { config { name: "n" base_path: "rel" model_platform: "tensorflow" } }',
            Code.INVALID_ARGUMENT,
            "Expected model n to have an absolute path or URI; got base_path()=rel",
        ),
        (
            'model_config_list { config { name: "n" base_path: "/a" model_platform: "tensorflow" } '
            'config { name: "n" base_path: "/b" model_platform: "tensorflow" } }',
            Code.INVALID_ARGUMENT,
            "Illegal to list model n multiple times in config list",
        ),
        (
            'model_config_list { config { name: "n" base_path: "/a" } }',
            Code.INVALID_ARGUMENT,
            "Illegal setting neither ModelServerConfig::model_type",
        ),
        (
            'model_config_list { config { name: "n" base_path: "/a" model_platform: "tensorflow" logging_config {} } }',
            Code.INVALID_ARGUMENT,
            "No request-logger-creator provided.",
        ),
    ],
)
def test_reload_mistakes_leave_everything_as_it_was(serve, base, text, code, part):
    client = serve(model_name="m", model_base_path=str(base))
    answered_code, details = failure(client.model.HandleReloadConfigRequest, reload_request(text), 10)
    assert (answered_code, part in details) == (code, True), details
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


@pytest.fixture
def polled(serve, base, tmp_path):
    """A server of model m whose configuration file is polled, and the file."""
    config = tmp_path / "models.config"
    config.write_text(config_text({"m": base}))
    return serve(model_config_file=str(config), model_config_file_poll_wait_seconds=0.05), config


def bad_files(base, tmp_path):
    """Name to the text of a file that is wrong in one way."""
    broken = tmp_path / "broken"
    (broken / "5").mkdir(parents=True)
    good = config_text({"m": base, "n": tmp_path / "n"})
    return {
        "nonsense": "nonsense {",
        "half": good[: len(good) // 2],
        "not text": None,
        "empty": "",
        "only a comment": "# to be written",
        "missing path": config_text({"m": base, "n": tmp_path / "missing"}),
        "no version": config_text({"m": base, "n": tmp_path}),
        "broken version": config_text({"m": base, "n": broken}),
        "null character": config_text({"m": base, "n": "/a\\000b"}),
        "a file as path": config_text({"m": base, "n": tmp_path / "models.config"}),
        "twice": good.removesuffix("}")
        + f'config {{ name: "m" base_path: "{base}" model_platform: "tensorflow" }} }}',
        "relative path": config_text({"m": base, "n": "relative"}),
        "no platform": f'model_config_list {{ config {{ name: "m" base_path: "{base}" }} }}',
        "label of no version": config_text({"m": base}, 'version_labels { key: "best" value: 9 }'),
        "removed": None,
    }


@pytest.mark.parametrize(
    "case",
    [
        "nonsense",
        "half",
        "not text",
        "empty",
        "only a comment",
        "missing path",
        "no version",
        "broken version",
        "null character",
        "a file as path",
        "twice",
        "relative path",
        "no platform",
        "label of no version",
        "removed",
    ],
)
def test_a_bad_polled_file_is_logged_once_and_the_next_good_one_takes_effect(
    polled, base, tmp_path, caplog, case
):
    client, config = polled
    text = bad_files(base, tmp_path)[case]
    if case == "removed":
        config.unlink()
    elif text is None:
        config.write_bytes(b"\xff\xfe")
    else:
        config.write_text(text)
    is_silent = case in ("empty", "only a comment")
    before = len(caplog.records)
    if not is_silent:
        wait_until(lambda: len(caplog.records) > before)
    polls = Event()
    Timer(0.5, polls.set).start()
    assert polls.wait(20)  # ten polls, or fewer on a busy machine
    messages = [record.getMessage() for record in caplog.records[before:]]
    assert len(messages) == len(set(messages)), messages
    assert served(client)[0] == 1
    save_tf1(tmp_path / "n" / "5")
    config.write_text(config_text({"m": base, "n": tmp_path / "n"}))
    wait_until(lambda: client.server.core.manager.is_available("n", 5))
    assert served(client, model="n")[0] == 5
    assert served(client)[0] == 1


def test_an_explicit_empty_list_unloads_everything(polled):
    client, config = polled
    config.write_text("model_config_list {}")
    wait_until(lambda: states(client)[1] == State.END)


def has_label(client, model, label):
    try:
        served(client, model=model, label=label)
    except grpc.RpcError:
        return False
    return True


def test_labels_of_a_polled_file_wait_for_their_versions(polled, base, tmp_path):
    client, config = polled
    save_tf1(tmp_path / "n" / "5")
    labelled = config_text({"n": tmp_path / "n"}, 'version_labels { key: "best" value: 5 }')
    config.write_text(
        config_text({"m": base}).removesuffix("}") + labelled.removeprefix("model_config_list {")
    )
    wait_until(lambda: has_label(client, "n", "best"))
    assert served(client, model="n", label="best")[0] == 5


def test_a_reload_that_waits_holds_up_no_other(serve, base, tmp_path):
    client = serve(model_name="m", model_base_path=str(base))
    (tmp_path / "empty").mkdir()
    waiting = client.model.HandleReloadConfigRequest.future(
        reload_request(config_text({"m": base, "e": tmp_path / "empty"})), 60
    )
    wait_until(lambda: "e" in client.server.core.models)
    answer = client.model.HandleReloadConfigRequest(reload_request(config_text({"m": base})), 20)
    assert answer.status.error_code == 0
    assert waiting.code() == Code.ABORTED
    assert waiting.details() == "A later configuration left out e"
