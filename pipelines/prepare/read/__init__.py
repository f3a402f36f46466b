"""Files into batches of raw rows."""
