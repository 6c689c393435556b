"""Figures of the running service: speed, overload, memory, faults. `python -m benchmarks.serving.NAME --help`

Speed: builds, throughput, one_connection, host_path, overload, peers; random_bundle makes models for them.
Faults: chaos, hostile_clients, memory, soak, rolling_update, fuzz_bodies, fuzz_adapters.

Shared: service (starts it), connection, closed_loop, open_loop (load it), texts, questions (what is sent), metrics,
growth (what is observed), offline (the same work without a service).
"""
