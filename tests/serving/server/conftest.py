"""SavedModels made once, and servers over them on free ports."""

from __future__ import annotations

import pytest

from serving.server.api import ServerOptions, start
from tests.serving.server.saved_models import install, save_echo, save_ranker, save_tf1
from tests.serving.server.server_client import Client, config_text


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder of base paths: half_plus_two (TF1, version 1), ranker (TF2, version 7), echo (version 3)."""
    root = tmp_path_factory.mktemp("models")
    save_tf1(root / "half_plus_two" / "00000001")
    save_ranker(root / "ranker" / "7")
    save_echo(root / "echo" / "3")
    return root


@pytest.fixture
def serve():
    """A function that starts a server from option values and gives its client; stopped at the end."""
    clients = []

    def launch(**options):
        options.setdefault("port", 0)
        options.setdefault("max_num_load_retries", 0)
        client = Client(start(ServerOptions(**options)))
        clients.append(client)
        return client

    yield launch
    for client in clients:
        client.close()
        client.server.stop(2)


@pytest.fixture(scope="session")
def shared(models, tmp_path_factory):
    """One server over all three models, with REST; tests must leave it as it is."""
    config = tmp_path_factory.mktemp("config") / "models.config"
    config.write_text(config_text({name: models / name for name in ("half_plus_two", "ranker", "echo")}))
    client = Client(
        start(ServerOptions(port=0, rest_api_port=-1, model_config_file=str(config), max_num_load_retries=0))
    )
    yield client
    client.close()
    client.server.stop(2)


@pytest.fixture
def base(models, tmp_path):
    path = tmp_path / "base"
    path.mkdir()
    install(models, path, 1)
    return path
