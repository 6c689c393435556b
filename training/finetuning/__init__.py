"""Finetuning: the loop, and a whole job with several runs and its evaluation."""
