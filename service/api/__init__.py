"""An API process: reads HTTP requests, checks and tokenises them, waits for the engine, and writes the answers."""
