"""What a pretrained ERNIE is finetuned for: one file a task, and what they have in common in `task.py`."""
