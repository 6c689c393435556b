"""Runtimes: one small protocol, and its implementation for each inference library."""
