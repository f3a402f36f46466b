"""The seeds' experiments on the user's data: what they train, measure, draw and say."""
