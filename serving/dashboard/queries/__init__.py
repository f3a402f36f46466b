"""Questions that only pages ask: about kept requests, the run's report, the gate's result."""
