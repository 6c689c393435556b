"""Figures of tokenisation, the corpus builder and training."""
