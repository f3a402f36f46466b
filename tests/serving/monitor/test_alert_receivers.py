"""What is sent to whom: the recorded forms, a real Alertmanager, silences and acknowledgements, secrets in no log."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ranker.errors import UserError
from serving.monitor.alerts import messages
from serving.monitor.alerts.evaluation import evaluate_and_send
from serving.monitor.alerts.keep import acknowledge, add_silence, load_alerts, stored_silences
from serving.monitor.alerts.machine import FIRING, RESOLVED, Alert
from serving.monitor.alerts.messages import Origin
from serving.monitor.alerts.rules import Receiver, Rules, Silence, load_rules, with_alertmanager
from serving.monitor.alerts.send import send
from serving.monitor.store import query
from tests.processes import answers, wait_until

NOW = 1_750_000_000
ORIGIN = Origin("shop", "http://127.0.0.1:8050", "http://127.0.0.1/alerts.html")
ALERT = Alert(
    "odd-replica",
    {"replica": "b"},
    "page",
    FIRING,
    NOW - 120,
    NOW,
    fired=NOW - 60,
    value=0.5,
    threshold=0.03,
    summary="b is <odd> & far",
    id=1,
)
RULES = {"rules": [{"name": "quiet", "condition": "no_data", "window": "5m", "for": "0s"}]}


def test_pagerduty_triggers_and_resolves_one_incident() -> None:
    event = messages.pagerduty_event(ALERT, ORIGIN, "KEY")
    assert (event["routing_key"], event["event_action"]) == ("KEY", "trigger")
    payload = event["payload"]
    assert payload["summary"] == "shop: b is <odd> & far"
    assert (payload["source"], payload["severity"], payload["class"]) == ("b", "critical", "odd-replica")
    assert payload["timestamp"] == "2025-06-15T15:04:40Z"
    assert {link["text"] for link in event["links"]} == {"Dashboard", "Alerts", "Runbook"}
    ended = messages.pagerduty_event(replace(ALERT, state=RESOLVED, resolved=NOW), ORIGIN, "KEY")
    assert (ended["event_action"], ended["dedup_key"]) == ("resolve", event["dedup_key"])
    other = messages.pagerduty_event(replace(ALERT, labels={"replica": "c"}), ORIGIN, "KEY")
    assert other["dedup_key"] != event["dedup_key"]
    assert (
        messages.pagerduty_event(replace(ALERT, severity="ticket"), ORIGIN, "K")["payload"]["severity"]
        == "warning"
    )


def test_slack_text_is_escaped_and_linked() -> None:
    message = messages.slack_message([ALERT, replace(ALERT, state=RESOLVED)], ORIGIN)
    assert "b is &lt;odd&gt; &amp; far" in message["text"]
    assert "<http://127.0.0.1/alerts.html#odd-replica|runbook>" in message["text"]
    assert [block["text"]["type"] for block in message["blocks"]] == ["mrkdwn", "mrkdwn"]
    assert "|dashboard>" not in messages.slack_message([ALERT], Origin("shop"))["text"]


def test_alertmanager_gets_labels_links_and_an_end() -> None:
    (posted,) = messages.alertmanager_alerts([ALERT], ORIGIN, NOW, 300)
    assert posted["labels"] == {
        "alertname": "odd-replica",
        "severity": "page",
        "deployment": "shop",
        "replica": "b",
    }
    assert (posted["startsAt"], posted["endsAt"]) == ("2025-06-15T15:04:40Z", "2025-06-15T15:11:40Z")
    assert posted["annotations"]["runbook_url"].endswith("#odd-replica")
    assert posted["generatorURL"].startswith("http://127.0.0.1:8050/")
    assert "generatorURL" not in messages.alertmanager_alerts([ALERT], Origin("shop"), NOW, 300)[0]


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"kind": "slack"}, "url"),
        ({"kind": "slack", "url": "ftp://x"}, "url"),
        ({"kind": "pager", "url": "http://x"}, "kind"),
        ({"kind": "pagerduty"}, "routing_key"),
        ({"kind": "webhook", "url": "http://x", "routing_key": "K"}, "routing_key"),
        ({"kind": "slack", "url": "$RANKER_NO_SUCH_VARIABLE"}, "environment variable"),
    ],
)
def test_a_bad_receiver_is_one_line(tmp_path: Path, tree: dict[str, str], says: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(json.dumps({"rules": [], "receivers": [tree]}))
    with pytest.raises(UserError, match=says) as caught:
        load_rules(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="alertmanager"):
        with_alertmanager(load_rules(), "nonsense")


def test_secrets_come_from_the_environment_and_go_to_no_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOOK", "http://127.0.0.1:9/T000/SECRET")
    receiver = Receiver(kind="slack", url="$HOOK")
    assert receiver.url.endswith("SECRET")
    assert not send(receiver, [ALERT], [], ORIGIN, NOW, 300)
    assert "did not take 1 alerts" in caplog.text
    assert "SECRET" not in caplog.text


def test_who_silenced_until_when_and_why_is_kept(sqlite_store, start: int) -> None:  # type: ignore[no-untyped-def]
    rules = Rules.model_validate(RULES)
    silence = Silence.model_validate(
        {
            "rule": "quiet",
            "start": "2020-01-01T00:00:00Z",
            "end": "2023-11-14T10:00:00Z",
            "author": "Ada",
            "comment": "moving",
        }
    )
    add_silence(sqlite_store, silence, start)
    assert evaluate_and_send(sqlite_store, rules, {}, start) == []
    (row,) = query.alerts(sqlite_store)
    assert (row.state, row.silenced, row.muted) == ("firing", True, True)
    (kept,) = stored_silences(sqlite_store, start)
    assert (kept.silence.author, kept.silence.comment) == ("Ada", "moving")
    end = int(silence.end.timestamp())
    assert [alert.rule for alert in evaluate_and_send(sqlite_store, rules, {}, end + 60)] == ["quiet"]
    for name in ("author", "comment"):
        with pytest.raises(UserError, match=name):
            add_silence(sqlite_store, silence.model_copy(update={name: " "}), start)


def test_an_acknowledgement_survives_the_monitors_next_look(sqlite_store, start: int) -> None:  # type: ignore[no-untyped-def]
    rules = Rules.model_validate({"rules": [{**RULES["rules"][0], "for": "2m"}]})
    evaluate_and_send(sqlite_store, rules, {}, start)
    before = load_alerts(sqlite_store)
    (alert,) = before.values()
    acknowledge(sqlite_store, alert.id, "Ada", start + 60)
    assert evaluate_and_send(sqlite_store, rules, {}, start + 180) == []  # it fires now, and Ada has it
    (row,) = query.alerts(sqlite_store)
    assert (row.state, row.acknowledged_by) == ("firing", "Ada")


ALERTMANAGER = shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


@pytest.fixture
def alertmanager(tmp_path: Path):  # type: ignore[no-untyped-def]
    """A real Alertmanager's address."""
    if ALERTMANAGER is None:
        pytest.skip("Alertmanager is not installed (apt-get install prometheus-alertmanager)")
    config = tmp_path / "alertmanager.yaml"
    config.write_text("route: {receiver: nobody}\nreceivers: [{name: nobody}]\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        ALERTMANAGER,
        f"--config.file={config}",
        f"--storage.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--cluster.listen-address=",
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: answers(f"{address}/-/ready"))
            yield address
        finally:
            server.terminate()
            server.wait(30)


@pytest.mark.prometheus
@pytest.mark.alertmanager
def test_a_real_alertmanager_takes_firing_and_resolved_alerts(alertmanager: str) -> None:
    receiver = Receiver(kind="alertmanager", url=alertmanager)
    now = int(time.time())
    alert = replace(ALERT, started=now - 120, updated=now, fired=now - 60)
    assert send(receiver, [alert], [alert], ORIGIN, now, 300)
    (found,) = httpx.get(f"{alertmanager}/api/v2/alerts").json()
    assert found["labels"] == messages.labels_of(alert, ORIGIN)
    assert found["status"]["state"] in ("active", "unprocessed")
    assert found["annotations"]["summary"] == alert.summary
    ended = replace(alert, state=RESOLVED, resolved=now - 1)
    assert send(receiver, [ended], [], ORIGIN, now, 300)
    assert httpx.get(f"{alertmanager}/api/v2/alerts").json() == []
    anew = replace(alert, started=now, updated=now, fired=now)
    assert send(
        receiver, [ended, anew], [anew], ORIGIN, now, 300
    )  # its end was not taken before it fired anew
    (active,) = httpx.get(f"{alertmanager}/api/v2/alerts").json()
    assert active["startsAt"].startswith(
        messages.alertmanager_alerts([anew], ORIGIN, now, 300)[0]["startsAt"][:-1]
    )
