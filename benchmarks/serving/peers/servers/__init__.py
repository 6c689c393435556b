"""The services that ernie-serve is compared with, each written for this model as a user of the library would do it.

They run in separate environments, which `python -m benchmarks.serving.peers` makes from the requirements in this
folder. Their settings are environment variables: BUNDLE (a directory), ENDPOINT and PORT. Each takes
`{"inputs": text}` at /classify or /fill-mask and returns labels and candidates as ernie-serve does. The
choices of threads, processes and batches were made on two cores with a model of 4 layers of 312.
"""
