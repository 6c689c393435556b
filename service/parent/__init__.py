"""The parent process: starts, watches and restarts the other processes, and replaces models."""
