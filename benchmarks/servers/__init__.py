"""The services that ernie-serve is compared with, each as a user of its library would write it for this model.

They run in environments of their own, which `python -m benchmarks.peers` makes from the requirements beside them. What
differs from run to run comes from the environment: BUNDLE (a directory), ENDPOINT and PORT. Each takes
`{"inputs": text}` at /classify or /fill-mask and answers as ernie-serve does as far as labels and candidates go. The
choices of threads, processes and batches were made on two cores with a model of 4 layers of 312.
"""
