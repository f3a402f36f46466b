"""An alert's life, state by state; rule files; the webhook's message."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.errors import UserError
from serving.monitor.alerts.conditions import Finding
from serving.monitor.alerts.evaluation import evaluate_and_send
from serving.monitor.alerts.machine import FIRING, PENDING, RESOLVED, step
from serving.monitor.alerts.rules import Rules, load_rules
from serving.monitor.store import query
from serving.monitor.store.results import EventRow

RULE = load_rules().named("coverage-low").model_copy(update={"wait": 120.0, "cooldown": 600.0})
ON, OFF, BETWEEN = Finding(active=True, cleared=False, value=0.5), Finding(), Finding(cleared=False)


def play(findings, every=60, rule=RULE, **options):
    """States after each look, and whether it was to be sent (sending marks it sent)."""
    alerts, seen = {}, []
    for place, finding in enumerate(findings):
        alerts = step(alerts, rule, [finding] if finding else [], place * every, **options)
        states = [(alert.state, alert.to_send) for alert in alerts.values()]
        alerts = {key: replace(a, notified=a.state) if a.to_send else a for key, a in alerts.items()}
        seen.append(states[0] if states else None)
    return seen, alerts


def test_pending_then_firing_then_resolved():
    seen, alerts = play([OFF, ON, ON, ON, ON, OFF, OFF])
    assert seen == [
        None, (PENDING, False), (PENDING, False), (FIRING, True), (FIRING, False), (RESOLVED, True), (RESOLVED, False)
    ]  # fmt: skip
    (alert,) = alerts.values()
    assert (alert.started, alert.fired, alert.resolved, alert.value) == (60, 180, 300, None)


def test_a_blip_is_never_told():
    seen, alerts = play([ON, ON, OFF, ON, OFF])
    assert [state for state in seen if state and state[1]] == []
    assert not alerts


def test_between_active_and_cleared_a_firing_alert_goes_on_and_a_pending_one_ends():
    assert play([ON, ON, ON, BETWEEN, BETWEEN])[0][-1] == (FIRING, False)
    assert play([ON, BETWEEN])[0][-1] is None


def test_back_within_the_cooldown_it_is_quiet_unless_it_stays():
    back_and_gone = [ON, ON, ON, OFF, ON, ON, ON, ON, OFF]
    assert [state for state in play(back_and_gone)[0] if state and state[1]] == [
        (FIRING, True),
        (RESOLVED, True),
    ]
    stays = [ON, ON, ON, OFF, *[ON] * 15, OFF]
    told = [place for place, state in enumerate(play(stays)[0]) if state and state[1]]
    assert told == [2, 3, 14, 19]  # the second time only once it held for the cooldown of ten minutes


def test_after_the_cooldown_it_is_told_again():
    told = [state for state in play([ON, ON, ON, OFF, *[OFF] * 12, ON, ON, ON])[0] if state and state[1]]
    assert told == [(FIRING, True), (RESOLVED, True), (FIRING, True)]


def test_missing_facts_hold_a_firing_alert_for_an_hour():
    seen, _ = play([ON, ON, ON, *[None] * 70])
    assert seen[60] == (FIRING, False)
    assert seen[-1] == (RESOLVED, False)
    assert (RESOLVED, True) in seen


def test_a_silence_keeps_quiet_and_lets_go():
    rules = Rules.model_validate(
        {"rules": [RULE.model_dump(by_alias=True)], "silences": [
            {"rule": RULE.name, "start": "1970-01-01T00:00:00Z", "end": "1970-01-01T00:05:00Z", "comment": "known"}]}
    )  # fmt: skip
    seen, _ = play([ON] * 7, silences=rules.silences)
    assert [state for state in seen if state and state[1]] == [(FIRING, True)]
    assert seen.index((FIRING, True)) == 5
    other = Rules.model_validate(
        {"rules": [RULE.model_dump(by_alias=True)], "silences": [
            {"labels": {"replica": "z"}, "start": "1970-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}]}
    )  # fmt: skip
    assert play([ON] * 3, silences=other.silences)[0][-1] == (FIRING, True)


def test_a_refresh_before_the_start_is_named():
    marks = (EventRow(0, "refresh", "m1", {"old": 3, "new": 4}),)
    _, alerts = play([OFF, ON, ON, ON], events=marks)
    (alert,) = alerts.values()
    assert "m1 was refreshed from version 3 to 4 3 min ago" in alert.summary


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([ON, OFF, BETWEEN, None]), max_size=80), st.sampled_from([0.0, 60.0, 180.0]))
def test_messages_alternate_and_firing_needs_its_wait(findings, wait):
    rule = RULE.model_copy(update={"wait": wait})
    seen, _ = play(findings, rule=rule)
    told = [state for state in seen if state and state[1]]
    assert [state for state, _ in told] == [
        FIRING if place % 2 == 0 else RESOLVED for place in range(len(told))
    ]
    for place, state in enumerate(seen):
        if state == (FIRING, True) and findings[place] is ON:
            held = int(wait // 60)
            assert all(finding is not OFF for finding in findings[max(place - held, 0) : place + 1])


def test_the_default_rules_load():
    rules = load_rules()
    assert {rule.condition for rule in rules.rules} == {
        "excess", "odd_replica", "floor_jump", "version_skew", "coverage", "no_data"
    }  # fmt: skip
    assert rules.named("version-skew").wait == 600


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rules: [", "not valid YAML"),
        ("- a", "rules"),
        ("rules: [{name: a, condition: nothing}]", "rules[0].condition"),
        ("rules: [{name: a, condition: excess, measure: auc}]", "rules[0].measure"),
        ("rules: [{name: a, condition: excess, measure: nope}]", "must be one of"),
        ("rules: [{name: a, condition: coverage, below: 2}]", "rules[0].below"),
        ("rules: [{name: a, condition: coverage, for: soon}]", "rules[0].for"),
        ("rules: [{name: a, condition: coverage, extra: 1}]", "rules[0].extra"),
        ("rules: [{name: a, condition: coverage}, {name: a, condition: coverage}]", "distinct"),
        ("{rules: [], silences: [{rule: x, start: 2026-01-01T00:00:00Z, end: 2026-01-02T00:00:00Z}]}", "'x'"),
        ("{rules: [], silences: [{start: 2026-01-02T00:00:00Z, end: 2026-01-01T00:00:00Z}]}", "end after"),
        ("{rules: [], silences: [{start: 2026-01-01T00:00:00, end: 2026-01-02T00:00:00}]}", "time zone"),
        ("{rules: [], webhook: 'ftp://x'}", "webhook"),
    ],
)
def test_a_bad_rule_file_is_one_line(tmp_path, text, says):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_rules(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_rule_file(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        load_rules(tmp_path / "none.yaml")


@pytest.fixture
def receiver():
    """An HTTP server that keeps what is posted, and answers with `status`."""
    kept: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            kept.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(server.status)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.status, server.kept = 200, kept
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_alerts_are_kept_and_posted_until_they_are_taken(sqlite_store, receiver, start):
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    rules = Rules.model_validate(
        {"webhook": url, "rules": [{"name": "quiet", "condition": "no_data", "window": "5m", "for": "2m"}]}
    )
    for minute in range(4):
        evaluate_and_send(sqlite_store, rules, {}, start + minute * 60, "shop")
        if minute == 2:  # due, but the receiver is broken the first time
            assert len(receiver.kept) == 1
            receiver.kept.clear()
        receiver.status = 500 if minute == 1 else 200
    (body,) = receiver.kept
    assert body["status"] == "firing"
    assert body["version"] == "4"
    (alert,) = body["alerts"]
    assert alert["labels"] == {"alertname": "quiet", "severity": "page", "deployment": "shop"}
    assert alert["annotations"]["summary"]
    assert alert["startsAt"].endswith("Z")
    (row,) = query.alerts(sqlite_store)
    assert (row.state, row.notified, row.started) == ("firing", "firing", start)
    assert evaluate_and_send(sqlite_store, rules, {}, start + 300, "shop") == []  # said once
