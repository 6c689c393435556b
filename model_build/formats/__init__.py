"""Weights in the formats of PaddleNLP and Hugging Face: the files, and the names of the parameters in them."""
