"""A base path in an object store: complete versions are copied to this disk and served, half ones are not there."""

import tempfile

import pytest

from ranker import storage
from serving.server.models.version_policy import State
from tests.processes import wait_until
from tests.serving.server.server_client import served, states

BASE = "s3://logs/runs/one/replicas/smelu/0"


@pytest.fixture
def put_version(models, bucket):
    """Puts a number of a model into the base path; without its last object if it is not to be whole."""

    def put(number, whole=True):
        target = storage.location(f"{BASE}/{number}")
        model = models / "half_plus_two" / "00000001"
        if whole:
            storage.add_tree(model, target, "saved_model.pb")
            return
        for name in storage.local_files(model):
            if name != "saved_model.pb":  # never there, not even for a moment: the server polls
                storage.put(model / name, target / name)

    return put


def test_versions_are_served_from_their_last_object_on(put_version, serve, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    put_version(1)
    client = serve(model_name="m", model_base_path=BASE, file_system_poll_wait_seconds=0.1, strict=True)
    assert served(client)[0] == 1
    put_version(3, whole=False)
    put_version(2)
    wait_until(lambda: served(client)[0] == 2)
    assert 3 not in states(client)
    put_version(3)
    wait_until(lambda: served(client)[0] == 3)
    storage.remove(storage.location(f"{BASE}/3"), "saved_model.pb")
    wait_until(lambda: served(client)[0] == 2)
    wait_until(lambda: states(client)[3] == State.END)
    # A store has no empty directories: where nothing is left, nothing is unloaded.
    storage.remove(storage.location(BASE))
    wait_until(lambda: "it has no versions" in caplog.text)
    assert served(client)[0] == 2
    assert list(tmp_path.iterdir()) == []  # copies go when the version is loaded
