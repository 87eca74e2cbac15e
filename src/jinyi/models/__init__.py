"""The three model classes: sentence vectors, pair similarity, topics."""
