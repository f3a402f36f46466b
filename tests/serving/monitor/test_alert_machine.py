"""An alert's life, state by state; rule files; the webhook's message."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.divergence import Settings as MeasureSettings
from ranker.errors import UserError
from serving.monitor.alerts.conditions import Finding
from serving.monitor.alerts.evaluation import evaluate_and_send
from serving.monitor.alerts.keep import deliveries
from serving.monitor.alerts.machine import FIRING, PENDING, RESOLVED, step
from serving.monitor.alerts.rules import Rules, Silence, load_rules
from serving.monitor.measurement.measure import measure
from serving.monitor.store import query
from serving.monitor.store.results import EventRow
from serving.monitor.store.write import write_round

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
        None,
        (PENDING, False),
        (PENDING, False),
        (FIRING, True),
        (FIRING, False),
        (RESOLVED, True),
        (RESOLVED, False),
    ]
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
        {
            "rules": [RULE.model_dump(by_alias=True)],
            "silences": [
                {
                    "rule": RULE.name,
                    "start": "1970-01-01T00:00:00Z",
                    "end": "1970-01-01T00:05:00Z",
                    "comment": "known",
                }
            ],
        }
    )
    seen, _ = play([ON] * 7, silences=rules.silences)
    assert [state for state in seen if state and state[1]] == [(FIRING, True)]
    assert seen.index((FIRING, True)) == 5
    other = Rules.model_validate(
        {
            "rules": [RULE.model_dump(by_alias=True)],
            "silences": [
                {"labels": {"replica": "z"}, "start": "1970-01-01T00:00:00Z", "end": "2100-01-01T00:00:00Z"}
            ],
        }
    )
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
        "excess",
        "odd_replica",
        "floor_jump",
        "version_skew",
        "coverage",
        "no_data",
    }
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
def new_receiver():
    """Starts HTTP servers that keep what is posted, and answer with `status`."""
    servers = []

    def start(port=0):
        kept: list[dict] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                kept.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(server.status)
                self.end_headers()

            def log_message(self, *arguments):
                pass

        server = HTTPServer(("127.0.0.1", port), Handler)
        server.status, server.kept = 200, kept
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def receiver(new_receiver):
    return new_receiver()


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


class TwoReceivers:
    """A rule whose alert fires, and ends once a round is stored; each look sends to both receivers."""

    def __init__(self, store, new_receiver, start):
        self.store, self.now = store, start
        self.servers = [new_receiver(), new_receiver()]
        receivers = [
            {"kind": "webhook", "url": f"http://127.0.0.1:{server.server_port}/"} for server in self.servers
        ]
        rule = {"name": "quiet", "condition": "no_data", "window": "5m", "for": "0s"}
        self.rules = Rules.model_validate({"receivers": receivers, "rules": [rule]})

    def look(self, *statuses, seconds=60):
        """Looks once; returns the states that each receiver took."""
        self.now += seconds
        for server, status in zip(self.servers, statuses, strict=True):
            server.status = status
            server.kept.clear()
        evaluate_and_send(self.store, self.rules, {}, self.now, "shop")
        return [[body["status"] for body in server.kept] for server in self.servers]

    def end(self, simulate):
        """Stores a round, so that the condition ends."""
        write_round(
            self.store, measure(simulate([0.1] * 3).round(self.now), MeasureSettings(), (), {}).record
        )


@pytest.fixture
def two_receivers(sqlite_store, new_receiver, start):
    return TwoReceivers(sqlite_store, new_receiver, start)


def test_a_receiver_that_failed_is_told_later_and_the_other_not_twice(two_receivers, simulate):
    assert two_receivers.look(200, 500) == [["firing"], ["firing"]]
    assert two_receivers.look(200, 503) == [[], ["firing"]]
    assert two_receivers.look(500, 200) == [[], ["firing"]]  # nothing is due to the first
    assert two_receivers.look(200, 200) == [[], []]
    two_receivers.end(simulate)
    assert two_receivers.look(500, 200) == [["resolved"], ["resolved"]]
    assert two_receivers.look(200, 200) == [["resolved"], []]
    assert two_receivers.look(200, 200) == [[], []]


def test_who_never_heard_that_it_fires_does_not_hear_that_it_ended(two_receivers, simulate):
    assert two_receivers.look(200, 500) == [["firing"], ["firing"]]
    two_receivers.end(simulate)
    assert two_receivers.look(200, 200) == [["resolved"], []]
    assert two_receivers.look(200, 200) == [[], []]


def test_an_end_is_told_late_even_if_the_alert_fires_anew_meanwhile(
    two_receivers, new_receiver, simulate, sqlite_store
):
    assert two_receivers.look(200, 200) == [["firing"], ["firing"]]
    port = two_receivers.servers[1].server_port
    two_receivers.servers[1].shutdown()
    two_receivers.servers[1].server_close()  # nobody listens there any more
    two_receivers.end(simulate)
    assert two_receivers.look(200, 200)[0] == ["resolved"]
    assert two_receivers.look(200, 200, seconds=3600)[0] == ["firing"]  # a second life
    two_receivers.end(simulate)
    assert two_receivers.look(200, 200)[0] == ["resolved"]
    assert two_receivers.look(200, 200, seconds=3600)[0] == ["firing"]  # and a third
    two_receivers.servers[1] = new_receiver(port)
    assert two_receivers.look(200, 200) == [[], ["firing"]]
    (body,) = two_receivers.servers[1].kept
    first, third = body["alerts"]  # of the second life it never heard
    assert (first["status"], third["status"]) == ("resolved", "firing")
    assert first["endsAt"] < third["startsAt"]
    assert two_receivers.look(200, 200) == [[], []]
    assert deliveries(sqlite_store) == {}


def test_an_end_is_told_late_to_nobody_while_it_is_silenced(two_receivers, simulate, start):
    assert two_receivers.look(200, 200) == [["firing"], ["firing"]]
    two_receivers.end(simulate)
    assert two_receivers.look(500, 500) == [["resolved"], ["resolved"]]
    silence = {"rule": "quiet", "start": start, "end": start + 7300, "comment": "moving"}
    plain_rules = two_receivers.rules
    two_receivers.rules = plain_rules.model_copy(update={"silences": (Silence.model_validate(silence),)})
    assert two_receivers.look(200, 200, seconds=3600) == [[], []]  # it fires anew
    two_receivers.rules = plain_rules
    assert two_receivers.look(200, 200) == [["firing"], ["firing"]]
    for server in two_receivers.servers:
        assert [alert["status"] for alert in server.kept[0]["alerts"]] == ["resolved", "firing"]
    assert two_receivers.look(200, 200) == [[], []]


def test_the_store_holds_no_address_of_a_receiver(two_receivers, sqlite_store):
    two_receivers.look(200, 500)
    (key,) = deliveries(sqlite_store)
    assert key[1] == two_receivers.rules.receivers[0].identity
    assert re.fullmatch("[0-9a-f]{32}", key[1])
