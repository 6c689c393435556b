"""The Open Inference Protocol v2 over HTTP: `infer` does the work, `metadata` describes, `wire` is the format."""
