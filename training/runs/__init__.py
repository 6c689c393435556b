"""The parts of every training run: optimiser step, checkpoints, records, progress, interruption."""
