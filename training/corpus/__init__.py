"""Tokenised corpora on disk: building, reading, checking and joining them."""
