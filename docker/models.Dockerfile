# An image with models, for k8s/components/models-image. It is built from a model repository <name>/<version>/:
#   docker build -f docker/models.Dockerfile -t ernie-models:1 models
# The base image must have `cp`, which copies the models into the pod's volume.
ARG BASE_IMAGE=docker.io/library/busybox:1.37
FROM ${BASE_IMAGE}
COPY . /models
USER 10001:10001
ARG VERSION=unknown
LABEL org.opencontainers.image.title="ernie-zh models" \
      org.opencontainers.image.version="${VERSION}"
