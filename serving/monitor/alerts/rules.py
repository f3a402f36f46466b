"""Alert rules as validated values, from YAML under version control."""

from __future__ import annotations

import hashlib
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, field_validator, model_validator

from ranker.config.base import Name, Section
from ranker.config.deployment import Duration, seconds
from ranker.config.validation import explain, read_yaml
from ranker.divergence import definition
from ranker.errors import UserError

Wait = Annotated[float, BeforeValidator(lambda value: 0.0 if value in (0, "0", "0s") else seconds(value))]
"""A duration that may be 0."""

PAGERDUTY = "https://events.pagerduty.com/v2/enqueue"
"""Where PagerDuty takes events of its API v2."""
DEFAULT_RULES = Path(__file__).parent / "default.yaml"


class Rule(Section):
    """One rule. `for`: how long its condition must hold; `cooldown`: how long after an end it stays quiet.

    Conditions, and the keys they read:

    - `excess`: the mean of `measure` over pairs exceeds its floor by more than `budget` (default: the configuration's),
      by the lower bound of a confidence sequence. It restarts with every new set of versions, on live traffic also every
      `window`; `alpha` is the chance of a false alarm a restart.
    - `odd_replica`: a replica's noise is more than `factor` times the median, after Holm at `alpha`.
    - `floor_jump`: a replica differs from itself in `measure` by over `factor` times what it did in the day before, and
      by at least `at_least`.
    - `version_skew`: replicas serve different versions.
    - `coverage`: a replica answers less than a share `below` of its requests.
    - `no_data`: there is no round for longer than `window`, or three of the monitor's intervals where that is longer.

    A `window` is never shorter than two rounds of the monitor.
    """

    name: Name
    condition: Literal["excess", "odd_replica", "floor_jump", "version_skew", "coverage", "no_data"]
    stream: Literal["probe", "live"] = "probe"
    severity: Literal["page", "ticket"] = "page"
    wait: Annotated[Wait, Field(alias="for")] = 0.0
    cooldown: Wait = 1800.0
    window: Duration = 900.0
    measure: str = "top1_swap"
    budget: Annotated[float, Field(ge=0)] | None = None
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.001
    factor: Annotated[float, Field(gt=1)] = 3.0
    at_least: Annotated[float, Field(ge=0)] = 0.0
    below: Annotated[float, Field(gt=0, le=1)] = 0.9

    @field_validator("measure")
    @classmethod
    def _is_one(cls, value: str) -> str:
        try:
            measure = definition(value)
        except UserError as error:
            raise ValueError(str(error)) from None
        if measure.family == "quality":
            raise ValueError("must be a measure of two replicas, not of ranking quality")
        return value


class Silence(Section):
    """Alerts of a rule (or `*`) with these labels are kept, but nobody is told, from `start` until `end`."""

    rule: str = "*"
    labels: dict[str, str] = {}
    start: datetime
    end: datetime
    comment: str = ""
    author: str = ""

    @field_validator("start", "end")
    @classmethod
    def _has_zone(cls, value: datetime) -> datetime:
        if value.tzinfo is None:
            raise ValueError("must have a time zone, such as 2026-01-31T08:00:00Z")
        return value

    @model_validator(mode="after")
    def _in_order(self) -> Silence:
        if self.start >= self.end:
            raise ValueError("must end after it starts")
        return self

    def covers(self, rule: str, labels: dict[str, str], now: float) -> bool:
        """Whether it keeps this alert quiet now."""
        return (
            self.rule in ("*", rule)
            and all(labels.get(key) == value for key, value in self.labels.items())
            and self.start.timestamp() <= now < self.end.timestamp()
        )


class Receiver(Section):
    """Who is sent alerts, by kind.

    - `webhook`: changes, in the form of Alertmanager's webhook.
    - `alertmanager`: its address, such as `http://127.0.0.1:9093`; it groups, routes and repeats.
    - `slack`: changes, to an incoming webhook.
    - `pagerduty`: changes, as events of the API v2 with a `routing_key`.

    A `url` or `routing_key` that begins with `$` names an environment variable, so that secrets stay out of the file.
    """

    kind: Literal["webhook", "alertmanager", "slack", "pagerduty"]
    url: str = ""
    routing_key: str = ""

    @field_validator("url", "routing_key")
    @classmethod
    def _from_environment(cls, value: str) -> str:
        if not value.startswith("$"):
            return value
        secret = os.environ.get(value[1:], "")
        if not secret:
            raise ValueError("must name an environment variable that is set")
        return secret

    @model_validator(mode="before")
    @classmethod
    def _default_address(cls, tree: Any) -> Any:
        if isinstance(tree, dict) and tree.get("kind") == "pagerduty" and not tree.get("url"):
            return {**tree, "url": PAGERDUTY}
        return tree

    @model_validator(mode="after")
    def _complete(self) -> Receiver:
        if not re.fullmatch(r"https?://\S+", self.url):
            raise ValueError("`url` must be an http or https address")
        if (self.kind == "pagerduty") != bool(self.routing_key):
            raise ValueError("`routing_key` belongs to pagerduty, which needs one")
        return self

    @property
    def identity(self) -> str:
        """Names it in the store: a hash, since an address may be a secret."""
        text = "\n".join((self.kind, self.url, self.routing_key))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Rules(Section):
    """A rule file. `receivers`: who is sent alerts; `webhook` is a receiver of that kind by its address alone."""

    rules: tuple[Rule, ...]
    silences: tuple[Silence, ...] = ()
    webhook: Annotated[str, Field(pattern=r"^https?://\S+$")] | None = None
    receivers: tuple[Receiver, ...] = ()

    @model_validator(mode="after")
    def _distinct(self) -> Rules:
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"rules must have distinct names. Received twice: {', '.join(twice)}")
        rule_names = {*names, "*"}
        for silence in self.silences:
            if silence.rule not in rule_names:
                raise ValueError(
                    f"a silence must name a rule of {', '.join(names)}. Received: {silence.rule!r}"
                )
        return self

    def everyone(self) -> tuple[Receiver, ...]:
        """All receivers."""
        webhook = (Receiver(kind="webhook", url=self.webhook),) if self.webhook is not None else ()
        return (*webhook, *self.receivers)

    def named(self, name: str) -> Rule | None:
        """The rule of this name, if there is one."""
        return next((rule for rule in self.rules if rule.name == name), None)


def load_rules(path: Path | str | None = None) -> Rules:
    """Reads a rule file; None: the rules that come with the monitor.

    Raises:
        UserError: no such file, not YAML, an unknown key, a value out of range; one line with file, key and value.
    """
    source = Path(path) if path is not None else DEFAULT_RULES
    tree = read_yaml(source, "the rules")
    try:
        return Rules.model_validate(tree)
    except ValidationError as error:
        raise UserError(f"{source}: {explain(error)}") from None


def with_alertmanager(rules: Rules, url: str | None) -> Rules:
    """The rules, sent to an Alertmanager, too.

    Raises:
        UserError: it is no address.
    """
    if url is None:
        return rules
    if not re.fullmatch(r"https?://\S+", url):
        raise UserError(f"--alertmanager must be an http or https address. Received: {url!r}")
    receiver = Receiver(kind="alertmanager", url=url)
    return rules.model_copy(update={"receivers": (*rules.receivers, receiver)})
