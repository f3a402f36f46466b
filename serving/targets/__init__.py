"""Model servers of any kind, asked for the scores of rows."""
