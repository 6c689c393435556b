"""The tasks of finetuning: one module per task, their common protocol in `task.py`, and their metrics."""
