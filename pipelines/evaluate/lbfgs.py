"""L-BFGS, for smooth convex functions of many variables."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


def minimise(
    objective: Objective,
    start: np.ndarray,
    *,
    iterations: int = 200,
    memory: int = 10,
    tolerance: float = 1e-5,
) -> np.ndarray:
    """The point where a convex function is smallest.

    Args:
        objective: value and gradient [n] at a point [n].
        start: the first point, float64 [n].
        iterations: at most.
        memory: how many steps estimate the curvature.
        tolerance: it is the minimum where the gradient's length is below this share of that at the start.

    Returns:
        float64 [n].

    Source: Nocedal and Wright, "Numerical Optimization", 2006, algorithm 7.5; steps are halved until the value
        falls enough (algorithm 3.1).

    Example:
        >>> minimise(lambda x: (float(((x - 3) ** 2).sum()), 2 * (x - 3)), np.zeros(2)).round(6).tolist()
        [3.0, 3.0]
    """
    point, (value, gradient) = start, objective(start)
    enough = tolerance * np.linalg.norm(gradient)
    history: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=memory)
    for _ in range(iterations):
        if np.linalg.norm(gradient) <= enough:
            break
        direction = -_times_inverse_curvature(gradient, history)
        slope = float(gradient @ direction)
        # Nothing is known of the curvature at first: a step of length 1 at most.
        step = 1.0 if history else min(1.0, 1.0 / float(np.linalg.norm(gradient)))
        while True:
            there = point + step * direction
            new_value, new_gradient = objective(there)
            if new_value <= value + 1e-4 * step * slope:
                break
            step /= 2
            if step < 1e-12:  # the value's last digits: no lower point can be told
                return point
        if (there - point) @ (new_gradient - gradient) > 0:
            history.append((there - point, new_gradient - gradient))
        point, value, gradient = there, new_value, new_gradient
    return point


def _times_inverse_curvature(
    gradient: np.ndarray, history: deque[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    if not history:
        return gradient
    result, shares = gradient.copy(), []
    for moved, turned in reversed(history):
        share = float(moved @ result) / float(moved @ turned)
        result -= share * turned
        shares.append(share)
    moved, turned = history[-1]
    result *= float(moved @ turned) / float(turned @ turned)
    for (moved, turned), share in zip(history, reversed(shares), strict=True):
        result += (share - float(turned @ result) / float(moved @ turned)) * moved
    return result
