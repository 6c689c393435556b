"""Smaller bundles, compared with their originals before they are published."""
