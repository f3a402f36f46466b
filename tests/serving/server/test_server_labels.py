"""Version labels: assigned, moved and refused, at start and by reloads."""

from __future__ import annotations

import threading

import pytest

from serving.server.models.loader import BundleLoader
from serving.server.models.version_policy import State
from serving.status import StatusError
from tests.processes import PATIENCE, wait_until
from tests.serving.server.saved_models import install
from tests.serving.server.server_client import TWO, Code, config_text, failure, reload_request, served, states


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
        StatusError, match="FAILED_PRECONDITION: Request to assign label to version 9 of model m, which"
    ):
        serve(model_config_file=str(config))
    client = serve(model_config_file=str(config), allow_version_labels_for_unavailable_models=True)
    assert failure(client.predict, label="stable", x=TWO) == (
        Code.NOT_FOUND,
        "Servable not found for request: Specific(m, 9)",
    )


def test_labels_at_start_wait_for_every_version_they_name(serve, models, base, tmp_path, monkeypatch):
    install(models, base, 2)
    load, second_is_loaded = BundleLoader.__call__, threading.Event()

    def lower_versions_last(self, servable):
        if servable.version == 1:
            assert second_is_loaded.wait(PATIENCE)
        model = load(self, servable)
        if servable.version == 2:
            second_is_loaded.set()
        return model

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
