"""Figures of the running service: speed, overload, memory, faults."""
