"""Studies on the user's data: each trains recipes, measures their replicas, and writes tables, pictures and an answer."""
