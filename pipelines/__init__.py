"""The batch pipeline on Apache Beam: prepare, train, evaluate, run."""
