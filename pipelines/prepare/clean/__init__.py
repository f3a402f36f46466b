"""Raw rows into example rows: joined, labelled, split, checked."""
