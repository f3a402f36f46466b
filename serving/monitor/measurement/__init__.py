"""From answers to sums: pairs, floor, refreshes, slices, example requests."""
