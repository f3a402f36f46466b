"""Simulates users and items with tastes, their requests, and clicks drawn from true probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DEVICES = ("phone", "tablet", "desktop")
COUNTRIES = ("AT", "BR", "CA", "DE", "FR", "IN", "JP", "US")
TAGS = ("art", "cooking", "film", "games", "history", "music", "nature", "news", "science", "sport", "travel")
_TASTES = 6
_HIDDEN = 24


@dataclass(frozen=True)
class Log:
    """Columns by name, as raw values.

    Attributes:
        events: one row an impression: `request_id, time, user_id, device, item_id, clicked, truth`; `truth`
            is the click's true probability, which no model sees.
        users: `user_id, age, country`.
        items: `item_id, category, tags, price`.
    """

    events: dict[str, np.ndarray]
    users: dict[str, np.ndarray]
    items: dict[str, np.ndarray]


def generate(requests: int, candidates: int = 20, users: int = 2000, items: int = 1000, seed: int = 0) -> Log:
    """Draws a log.

    The true log-odds of a click are a user's taste times an item's character, the item's appeal, the device's bias,
    and a small random network of both sides (so that there is something for a tower to learn that dot products and
    linear models cannot).

    Args:
        requests: how many requests, >= 1.
        candidates: items shown in each, 2 to `items`.
        users: how many users, >= 1.
        items: how many items, >= 2.
        seed: equal arguments and seed give equal logs.

    Returns:
        The log; events stand in the order of time, a request's candidates together.
    """
    random = np.random.default_rng([seed, 0x5EED])
    user_taste, item_taste = random.normal(size=(users, _TASTES)), random.normal(size=(items, _TASTES))
    user_table, ages, countries = _users(users, user_taste, random)
    item_table, appeal = _items(items, item_taste, random)

    # Some users come often, most seldom; popular items are shown more: both are Zipf-like, as in real logs.
    user = random.choice(users, size=requests, p=_zipf(users, 0.7))
    shown = np.log(_zipf(items, 0.8)) + random.gumbel(size=(requests, items))
    item = np.argpartition(-shown, candidates - 1, axis=1)[:, :candidates]
    random.permuted(item, axis=1, out=item)
    device = random.choice(len(DEVICES), size=requests, p=[0.6, 0.1, 0.3])

    taste = np.einsum("rt,rkt->rk", user_taste[user], item_taste[item]) / np.sqrt(_TASTES)
    first = random.normal(size=(2 * _TASTES + 2, _HIDDEN)) / np.sqrt(2 * _TASTES)
    second = random.normal(size=_HIDDEN) / np.sqrt(_HIDDEN)
    user_traits = np.stack([(ages[user] - 40) / 15, countries[user] / 4 - 1], axis=1)
    user_part = np.concatenate([user_taste[user], user_traits], axis=1) @ first[: _TASTES + 2]
    item_part = item_taste @ first[_TASTES + 2 :]
    network = np.tanh(user_part[:, None, :] + item_part[item]) @ second
    logit = 0.9 * taste + 1.5 * network + appeal[item] + np.array([0.2, 0.0, -0.3])[device][:, None] - 1.3
    truth = 1 / (1 + np.exp(-logit))

    clicked = random.random(truth.shape) < truth
    time = 1_700_000_000 + np.sort(random.integers(0, 14 * 86_400, size=requests))
    row = np.repeat(np.arange(requests), candidates)
    events = {
        "request_id": np.char.add("r", row.astype(str)),
        "time": time[row],
        "user_id": user_table["user_id"][user][row],
        "device": np.array(DEVICES)[device][row],
        "item_id": item_table["item_id"][item].ravel(),
        "clicked": clicked.ravel().astype(np.int64),
        "truth": truth.ravel().round(6),
    }
    return Log(events, user_table, item_table)


def _users(
    count: int, taste: np.ndarray, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    ages = np.clip(40 + 8 * taste[:, 0] + random.normal(0, 12, count), 16, 90).round()
    countries = np.clip(
        (4 + 1.5 * taste[:, 1] + random.normal(0, 1.5, count)).astype(int), 0, len(COUNTRIES) - 1
    )
    text = ages.astype(int).astype(str)
    text[random.random(count) < 0.03] = ""  # some never say
    table = {"user_id": np.char.add("u", np.arange(count).astype(str)), "age": text}
    return {**table, "country": np.array(COUNTRIES)[countries]}, ages, countries


def _items(
    count: int, taste: np.ndarray, random: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    leaning = taste @ random.normal(size=(_TASTES, len(TAGS))) + random.gumbel(size=(count, len(TAGS)))
    ranked = np.argsort(-leaning, axis=1)
    many = random.integers(1, 4, size=count)
    tags = np.array(["|".join(TAGS[t] for t in sorted(row[:n])) for row, n in zip(ranked, many, strict=True)])
    price = np.exp(random.normal(2.5, 0.8, count)).round(2)
    appeal = 0.6 * random.normal(size=count) - 0.25 * (np.log(price) - 2.5)
    table = {
        "item_id": np.char.add("i", np.arange(count).astype(str)),
        "category": np.array(TAGS)[ranked[:, 0]],
        "tags": tags,
        "price": price,
    }
    return table, appeal


def _zipf(count: int, exponent: float) -> np.ndarray:
    weight = 1.0 / (10 + np.arange(count)) ** exponent
    return weight / weight.sum()
