"""docker/ and configs/tf-serving/: no container engine here, so everything that can be checked without one is."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import typer
import yaml

from ranker.cli import app
from tests.command_line import parsed_by_the_command_line

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))
KUBERNETES = list(yaml.safe_load_all((DOCKER / "kubernetes.yaml").read_text(encoding="utf-8")))

TEXT = {"type": "string"}
TEXTS = {"type": "array", "items": TEXT}
DURATION = {"type": "string", "pattern": r"^\d+(ms|s|m|h)$"}
# What the compose specification says of the keys used here; any other key is a mistake until it stands here.
COMPOSE_SCHEMA = {
    "type": "object",
    "required": ["name", "services"],
    "additionalProperties": False,
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "volumes": {"type": "object", "additionalProperties": {"type": "object", "maxProperties": 0}},
        "services": {
            "type": "object",
            "propertyNames": {"pattern": "^[a-zA-Z0-9._-]+$"},
            "additionalProperties": {
                "type": "object",
                "required": ["image", "restart"],
                "additionalProperties": False,
                "properties": {
                    "image": TEXT,
                    "build": {
                        "type": "object",
                        "required": ["context", "dockerfile"],
                        "additionalProperties": False,
                        "properties": {"context": TEXT, "dockerfile": TEXT},
                    },
                    "command": TEXTS,
                    "user": {"type": "string", "pattern": r"^\d+:\d+$"},
                    "read_only": {"type": "boolean"},
                    "tmpfs": TEXTS,
                    "cap_drop": TEXTS,
                    "security_opt": TEXTS,
                    "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
                    "environment": {"type": "object", "additionalProperties": TEXT},
                    "volumes": {"type": "array", "items": {"type": "string", "pattern": ":/"}},
                    "ports": {
                        "type": "array",
                        "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"},
                    },
                    "healthcheck": {
                        "type": "object",
                        "required": ["test"],
                        "additionalProperties": False,
                        "properties": {
                            "test": {
                                "type": "array",
                                "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}],
                                "items": TEXT,
                            },
                            "interval": DURATION,
                            "timeout": DURATION,
                            "start_period": DURATION,
                            "retries": {"type": "integer", "minimum": 1},
                        },
                    },
                    "stop_grace_period": DURATION,
                    "pre_stop": {
                        "type": "array",
                        "items": {
                            "type": "object",
                            "required": ["command"],
                            "additionalProperties": False,
                            "properties": {"command": TEXTS},
                        },
                    },
                    "deploy": {
                        "type": "object",
                        "additionalProperties": False,
                        "properties": {
                            "resources": {
                                "type": "object",
                                "additionalProperties": False,
                                "properties": {
                                    "limits": {
                                        "type": "object",
                                        "additionalProperties": False,
                                        "properties": {
                                            "cpus": TEXT,
                                            "memory": {"type": "string", "pattern": r"^\d+[kmg]$"},
                                        },
                                    }
                                },
                            }
                        },
                    },
                    "depends_on": {
                        "type": "object",
                        "additionalProperties": {
                            "type": "object",
                            "required": ["condition"],
                            "additionalProperties": False,
                            "properties": {"condition": {"enum": ["service_started", "service_healthy"]}},
                        },
                    },
                },
            },
        },
    },
}


def test_compose_follows_the_specification():
    jsonschema.validate(COMPOSE, COMPOSE_SCHEMA, jsonschema.Draft202012Validator)


def test_compose_names_only_what_exists():
    services = COMPOSE["services"]
    for name, service in services.items():
        for dependency, needs in service.get("depends_on", {}).items():
            assert (
                needs["condition"] != "service_healthy"
                or "healthcheck" in services[dependency]
                or "build" in services[dependency]
            )
        for volume in service.get("volumes", []):
            # The one variable's default is left out: it is the user's run directory.
            source = re.sub(r"\$\{[^}]*\}", "", volume).split(":")[0]
            if volume.startswith("${"):
                continue
            assert (DOCKER / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], (
                name
            )
        if "build" in service:
            build = service["build"]
            assert (DOCKER / build["context"] / build["dockerfile"]).exists()
        else:
            assert re.search(r":v?\d+\.\d+", service["image"]), f"{name}: the image must be pinned"


def test_the_steps_of_a_roll_out_use_ports_that_compose_publishes():
    """`ranker serve --base-port 8500 --rest-base-port 8510` has the same, on one machine."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    published = {
        re.fullmatch(r"127\.0\.0\.1:(\d+):\d+", port)[1]: name
        for name, service in COMPOSE["services"].items()
        for port in service.get("ports", ())
    }
    roll_out = page[page.index("## Roll out a refresh") : page.index("## Roll back")]
    named = set(re.findall(r"127\.0\.0\.1:(\d+)", roll_out))
    assert {published[port] for port in named} == {"smelu-0", "smelu-1", "smelu-2"}
    assert "--base-port 8500 --rest-base-port 8510" in page
    assert len(published) == sum(len(service.get("ports", ())) for service in COMPOSE["services"].values())


def test_compose_variables_are_in_the_example():
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    example = (DOCKER / "env.example").read_text(encoding="utf-8")
    used = set(re.findall(r"\$\{(\w+)", text))
    assert used == set(re.findall(r"^(?:# )?(\w+)=", example, re.M))
    assert not re.search(r"PASSWORD=\S|TOKEN=\S", example)


def test_compose_commands_are_ours():
    ours = {name: service for name, service in COMPOSE["services"].items() if "build" in service}
    assert set(ours) == {"gateway-replicas", "monitor", "dashboard"}
    replicas = {name for name in COMPOSE["services"] if name.startswith("smelu-")}
    for name, service in ours.items():
        parsed_by_the_command_line(service["command"])
        targets = dict(re.findall(r"--replica=([^=]+)=([^:]+):8500", " ".join(service["command"])))
        assert name == "dashboard" or set(targets) == set(targets.values()) == replicas


def test_the_gateways_configuration_is_what_the_command_prints(capsys, tmp_path):
    """docs/operations.md has the command; Envoy itself reads the file, with a file of replicas in its place."""
    page = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"ranker (gateway [^`]*?--print-config) > docker/envoy.json", page)
    typer.main.get_command(app).main(shlex.split(command.replace("\\\n", " ")), standalone_mode=False)
    text = (DOCKER / "envoy.json").read_text(encoding="utf-8")
    assert text == capsys.readouterr().out
    compose = " ".join(COMPOSE["services"]["gateway-replicas"]["command"])
    targets = re.compile(r"smelu-\d=smelu-\d:8500")
    assert set(targets.findall(compose)) == set(targets.findall(command))
    (mirror,) = re.findall(r"--monitor=monitor:(\d+)", command)
    listening = re.findall(
        r"--mirror-listen=0.0.0.0:(\d+)", " ".join(COMPOSE["services"]["monitor"]["command"])
    )
    assert listening in ([], [mirror])

    from serving.deployment import from_targets
    from serving.gateway import follow
    from serving.gateway.process import envoy_path

    follow(lambda: from_targets(["a=127.0.0.1:1"]), tmp_path / "replicas.json", once=True)
    (tmp_path / "envoy.json").write_text(text.replace("/gateway", str(tmp_path)), encoding="utf-8")
    check = [str(envoy_path(None)), "--mode", "validate", "--config-path", str(tmp_path / "envoy.json")]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1500:]


def test_compose_drains_the_gateway_as_kubernetes_does():
    """The script itself runs in tests/serving/gateway/test_gateway_in_containers.py."""
    (pod,) = (
        entry["spec"]["template"]["spec"]
        for entry in KUBERNETES
        if (entry["kind"], entry["metadata"]["name"]) == ("Deployment", "ranker-gateway")
    )
    script = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    (hook,) = COMPOSE["services"]["gateway"]["pre_stop"]
    # Compose reads `$$` as `$`.
    assert [argument.replace("$$", "$") for argument in hook["command"]] == script


def test_tf_serving_files_parse():
    from google.protobuf import text_format

    from serving.wire import BatchingParameters, ModelServerConfig, MonitoringConfig, SSLConfig

    kinds = {
        "models.config": ModelServerConfig,
        "models-pinned.config": ModelServerConfig,
        "batching.config": BatchingParameters,
        "monitoring.config": MonitoringConfig,
        "ssl.example.config": SSLConfig,
    }
    directory = ROOT / "configs" / "tf-serving"
    assert {path.name for path in directory.iterdir()} == set(kinds)
    parsed = {
        name: text_format.Parse((directory / name).read_text(encoding="utf-8"), kind())
        for name, kind in kinds.items()
    }
    batching = parsed["batching.config"]
    assert list(batching.allowed_batch_sizes)[-1] == batching.max_batch_size.value
    assert parsed["monitoring.config"].prometheus_config.path == "/monitoring/prometheus/metrics"
    for name in ("models.config", "models-pinned.config"):
        (model,) = parsed[name].model_config_list.config
        assert (model.name, model.base_path) == ("ranker", "/models/ranker")
        pinned = set(model.model_version_policy.specific.versions)
        assert set(model.version_labels.values()) <= pinned
    assert "(the replica's key)" in parsed["ssl.example.config"].server_key


def test_prometheus_configuration(tmp_path):
    path = DOCKER / "prometheus" / "prometheus.yaml"
    tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    hosts = {
        target.split(":")[0]
        for job in tree["scrape_configs"]
        for group in job["static_configs"]
        for target in group["targets"]
    }
    assert hosts <= set(COMPOSE["services"])


@pytest.mark.prometheus
def test_promtool_accepts_the_configuration():
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    path = DOCKER / "prometheus" / "prometheus.yaml"
    command = shlex.split(f"promtool check config --syntax-only {path}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_alertmanager_is_there_and_its_routes_name_receivers():
    tree = yaml.safe_load((DOCKER / "prometheus" / "alertmanager.yaml").read_text(encoding="utf-8"))
    receivers = {receiver["name"] for receiver in tree["receivers"]}
    routes = [tree["route"], *tree["route"]["routes"]]
    assert {route["receiver"] for route in routes} == receivers
    severities = {matcher for route in routes for matcher in route.get("matchers", ())}
    assert severities == {'severity="page"', 'severity="ticket"'}
    prometheus = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yaml").read_text(encoding="utf-8"))
    (group,) = prometheus["alerting"]["alertmanagers"]
    assert group["static_configs"][0]["targets"] == ["alertmanager:9093"]
    assert "alertmanager" in COMPOSE["services"]


def examples_in_force(text: str) -> str:
    """The file with its commented examples, without the files of secrets that only their users have."""
    return re.sub(r"^( +)# ", r"\1", text, flags=re.M)


@pytest.mark.alertmanager
@pytest.mark.parametrize("change", [str, examples_in_force], ids=["as it stands", "examples in force"])
def test_amtool_accepts_the_routes(tmp_path, change):
    if shutil.which("amtool") is None:
        pytest.skip("amtool is not installed (apt-get install prometheus-alertmanager)")
    path = tmp_path / "alertmanager.yaml"
    path.write_text(change((DOCKER / "prometheus" / "alertmanager.yaml").read_text(encoding="utf-8")))
    done = subprocess.run(["amtool", "check-config", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


KINDS = {
    "Deployment": "apps/v1",
    "Service": "v1",
    "ConfigMap": "v1",
    "PodDisruptionBudget": "policy/v1",
}
CONTAINER_KEYS = {
    "name",
    "restartPolicy",
    "image",
    "args",
    "env",
    "ports",
    "startupProbe",
    "readinessProbe",
    "livenessProbe",
    "lifecycle",
    "resources",
    "securityContext",
    "volumeMounts",
}
POD_KEYS = {"securityContext", "terminationGracePeriodSeconds", "containers", "initContainers", "volumes"}


def test_kubernetes_objects_hang_together():
    pods = {}
    for entry in KUBERNETES:
        assert entry["apiVersion"] == KINDS[entry["kind"]]
        assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", entry["metadata"]["name"])
        if entry["kind"] == "Deployment":
            pods[entry["metadata"]["name"]] = entry["spec"]["template"]
    for entry in KUBERNETES:
        spec = entry.get("spec", {})
        selector = spec.get("selector", {})
        labels = selector.get("matchLabels", selector)
        if labels:
            matching = [pod for pod in pods.values() if labels.items() <= pod["metadata"]["labels"].items()]
            assert matching, entry["metadata"]["name"]
        if entry["kind"] == "Service":
            ports = {
                port["name"]
                for pod in matching
                for box in pod["spec"]["containers"]
                for port in box.get("ports", [])
            }
            assert {port["targetPort"] for port in spec["ports"]} <= ports
    for pod in pods.values():
        assert pod["spec"].keys() <= POD_KEYS
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]}
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
            assert container.keys() <= CONTAINER_KEYS
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert container["resources"]["limits"]["memory"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            named = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                for action, arguments in container.get(probe, {}).items():
                    assert action not in ("tcpSocket", "httpGet", "grpc") or arguments["port"] in named
            if container["image"].startswith("steady-ranker/"):
                parsed_by_the_command_line(container["args"])
                role = container["image"].split("/")[1]
                assert (DOCKER / f"{role}.Dockerfile").is_file()
