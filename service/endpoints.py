"""The served tasks, each with the path of its endpoint."""

from model_build.bundle import Task

ENDPOINTS: dict[Task, str] = {"classify": "/classify", "fill-mask": "/fill-mask"}
SERVED_TASKS = tuple(ENDPOINTS)
