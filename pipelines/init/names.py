"""What the name of a column or of a file says: a label, a user, an item, an amount, a time, a part of the log."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

LABEL_NAMES = frozenset(
    [
        "label",
        "click",
        "clicked",
        "clicks",
        "clk",
        "is_click",
        "target",
        "purchase",
        "purchased",
        "bought",
        "buy",
        "liked",
        "like",
        "converted",
        "conversion",
        "watched",
        "relevance",
        "relevant",
        "y",
    ]
)
RATING_NAMES = ("rating", "overall", "stars", "grade", "score")
REQUEST_NAMES = (
    "request",
    "impression",
    "session",
    "query",
    "qid",
    "search",
    "srch",
    "slate",
    "display",
    "auction",
    "page_view",
    "pageview",
)
USER_NAMES = (
    "user",
    "uid",
    "uuid",
    "reviewer",
    "visitor",
    "customer",
    "member",
    "account",
    "client",
    "cookie",
    "device",
)
ITEM_NAMES = frozenset(
    [
        "item",
        "asin",
        "sku",
        "isbn",
        "product",
        "movie",
        "doc",
        "document",
        "article",
        "app",
        "ad",
        "adgroup",
        "creative",
        "banner",
        "prop",
        "property",
        "hotel",
        "song",
        "track",
        "book",
        "candidate",
        "listing",
        "news",
        "video",
        "business",
        "recipe",
        "game",
    ]
)
KEY_WORDS = {
    *("id", "ids", "key", "no", "nr", "number", "code", "hash", "uid", "uuid", "sk"),
    *("pseudo", "anonymous", "anon", "hashed", "encoded", "internal", "external"),
}
CODE_NAMES = frozenset(
    [
        "id",
        "ids",
        "key",
        "code",
        "type",
        "category",
        "class",
        "zip",
        "zipcode",
        "postcode",
        "hash",
        "uid",
        "cluster",
        "cat",
        "cate",
        "brand",
        "campaign",
        "advertiser",
        "publisher",
        "seller",
        "merchant",
        "customer",
        "segment",
        "platform",
        "gender",
        "occupation",
        "country",
        "region",
        "city",
        "site",
        "channel",
        "browser",
        "os",
    ]
)
CODE_SERIES = re.compile(
    r"(c|cat|cate|category|code)_?\d+", re.IGNORECASE
)  # `C14`, `cat_3`: how contests hide codes
_NO_KEYS = {
    *(
        "avoid",
        "aid",
        "bid",
        "covid",
        "fluid",
        "grid",
        "humid",
        "hybrid",
        "kid",
        "mid",
        "paid",
        "rapid",
        "solid",
        "valid",
        "void",
    ),
}
AMOUNT_NAMES = frozenset(
    [
        "age",
        "amount",
        "average",
        "avg",
        "cnt",
        "count",
        "counts",
        "days",
        "depth",
        "distance",
        "duration",
        "height",
        "hours",
        "length",
        "mean",
        "minutes",
        "num",
        "number",
        "percent",
        "popularity",
        "position",
        "price",
        "qty",
        "quantity",
        "rank",
        "rate",
        "rating",
        "ratio",
        "score",
        "seconds",
        "size",
        "stars",
        "sum",
        "temperature",
        "total",
        "views",
        "weight",
        "width",
        "year",
    ]
)
TIME_NAMES = {"time", "date", "timestamp", "datetime", "created", "when", "ts"}
MOMENT_NAMES = {"timestamp", "ts", "unixtime"}
_TRAIN_WORDS = frozenset({"train", "training", "tr"})
_VALIDATION_WORDS = frozenset({"valid", "vali", "validation", "val", "dev"})
_TEST_WORDS = frozenset({"test", "testing", "eval", "evaluation", "holdout"})
PART_WORDS = _TRAIN_WORDS | _VALIDATION_WORDS | _TEST_WORDS


def split_part(text: str) -> str | None:
    """`train`, `validation` or `test`, if the words of a text say that; None if they say nothing or several."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    parts = {"train": _TRAIN_WORDS, "validation": _VALIDATION_WORDS, "test": _TEST_WORDS}
    matches = [part for part, names in parts.items() if words & names]
    return matches[0] if len(matches) == 1 else None


def words_of(name: str) -> set[str]:
    """The words of a column's name, in lower case: `userID` and `user_id` are `user` and `id`."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name)
    return set(re.findall(r"[a-z]+", spaced.lower())) | {name.lower()}


def names_a_key(name: str, words: Collection[str]) -> bool:
    """Whether a name says that a column identifies one of `words`: `user`, `UserID`, `item_no`, but not `user_age`."""
    if "." in name and names_a_key(name.rpartition(".")[2], words):  # a field of an object
        return True
    parts = set(re.findall(r"[a-z0-9]+", re.sub(r"([a-z0-9])([A-Z])", r"\1 \2", name).lower()))
    rest = {_without_id(part) for part in parts - KEY_WORDS}
    singular = {part.removesuffix("s") for part in rest}
    return (bool(rest) and (rest <= set(words) or singular <= set(words))) or name.lower() in words


def ends_in_id(words: Collection[str]) -> bool:
    """Whether one of the words says that it identifies something by its end: `itemid`, but not `paid`."""
    return any(word != _without_id(word) for word in words if word.isalpha())


def _without_id(word: str) -> str:
    """`itemid` is `item`, but `paid` is no key."""
    return word[:-2] if word.endswith("id") and len(word) > 3 and word not in _NO_KEYS else word


def listed(names: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(names[:5]) + (f" or one of {len(names) - 5} more" if len(names) > 5 else "")
