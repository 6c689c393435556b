# Models as an image, for k8s/components/models-image. The folder it is built from is the repository <name>/<version>/:
#   docker build -f docker/models.Dockerfile -t ernie-models:1 models
# The base brings `cp`, which puts the models where the service looks for them.
ARG BASE_IMAGE=docker.io/library/busybox:1.37
FROM ${BASE_IMAGE}
COPY . /models
USER 10001:10001
ARG VERSION=unknown
LABEL org.opencontainers.image.title="ernie-zh models" \
      org.opencontainers.image.version="${VERSION}"
