"""Figures of training. `python -m benchmarks.training.NAME --help`

tokenizer and tokenizer_parity (of the native module), corpus, training_step, finetuning.
"""
