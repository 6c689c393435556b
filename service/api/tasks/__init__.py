"""The work behind the endpoints: one module or folder for each task."""
