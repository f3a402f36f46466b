"""Which requests a round asks: the probe's, a sample of mirrored calls, examples kept for the page."""
