"""Runtimes: everything that knows an inference library, behind one small protocol."""
