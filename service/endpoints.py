"""The served tasks, each with the path of its endpoint, and the endpoint of all models."""

from model_build.bundle import Task

ENDPOINTS: dict[Task, str] = {"classify": "/classify", "fill-mask": "/fill-mask"}
TOKENIZE = "/tokenize"
SERVED_TASKS = tuple(ENDPOINTS)
