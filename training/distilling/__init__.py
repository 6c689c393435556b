"""Distillation: teachers, students and the losses between them."""
