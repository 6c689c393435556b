"""Mixed traffic while processes, the temporary folder and bundles fail: `python -m benchmarks.serving.chaos --help`.

`__main__` starts the service, `questions_of` knows the right answers, `clients` send them over `raw_connection`,
`faults` harm the service, `timeline` knows which refusals a fault allows, `ledger` judges every answer and the
counters, `observation` samples processes and `/health/live`, `report` prints.
"""
