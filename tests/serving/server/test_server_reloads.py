"""A changed list of models: by a reload request, by the polled configuration file."""

from __future__ import annotations

import time

import pytest

from serving.server.version_policy import State
from tests.serving.server.saved_models import save_tf1
from tests.serving.server.server_client import (
    Code,
    config_text,
    failure,
    reload_request,
    served,
    states,
    wait_until,
)


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
