"""Training rows: read, ordered, packed into batches."""
