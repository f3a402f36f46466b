"""The ladder of noise: what two replicas share and do not share tells which noise separates them."""

from collections.abc import Mapping

LEVELS = {
    "L0": "the same replica asked twice",
    "L1": "the same model on another server",
    "L2": "the same seeds, trained again",
    "L3": "the same initialisation, another shuffle",
    "L4": "another initialisation, the same shuffle",
    "L5": "another initialisation and another shuffle",
    "L6": "another version or other data",
    "unlabelled": "a seed is unknown",
}
"""Level -> what the pair differs by. What an alert watches is the excess over the floor (L0, L1)."""

FLOOR = ("L0", "L1")
"""Levels at which nothing was trained again: differences are arithmetic, not learning."""


def level(a: Mapping[str, object], b: Mapping[str, object]) -> str:
    """Level of a pair of replicas from their labels.

    Args:
        a: labels of the first: `replica`, `version`, `data` (hash of the training data), `init_seed`,
            `shuffle_seed`, `server` (where it was asked). Missing keys count as None.
        b: labels of the second.

    Returns:
        A key of `LEVELS`; "unlabelled" where the seeds that would decide are not known.

    Example:
        >>> first = {"replica": "0", "version": 1, "data": "9f", "init_seed": 1, "shuffle_seed": 1}
        >>> level(first, {**first, "replica": "1", "shuffle_seed": 2})
        'L3'
    """
    is_equal = {
        key: a.get(key) == b.get(key) for key in ("version", "data", "init_seed", "shuffle_seed", "server")
    }
    if not (is_equal["version"] and is_equal["data"]):
        return "L6"
    if a.get("replica") == b.get("replica") is not None:
        return "L0" if is_equal["server"] else "L1"
    seeds = [labels.get(seed) for labels in (a, b) for seed in ("init_seed", "shuffle_seed")]
    if None in seeds:
        return "unlabelled"
    return {(True, True): "L2", (True, False): "L3", (False, True): "L4", (False, False): "L5"}[
        is_equal["init_seed"], is_equal["shuffle_seed"]
    ]
