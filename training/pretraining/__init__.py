"""Masked-LM pretraining: data, batches, objective and loop."""
