"""ernie-serve compared with the services of other libraries; `python -m benchmarks.serving.peers`."""
