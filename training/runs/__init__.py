"""What every training run needs: optimiser step, checkpoints, records, interruption."""
