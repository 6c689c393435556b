"""The HTTP service: API process, engine processes, runtimes. Nothing below imports Paddle."""
