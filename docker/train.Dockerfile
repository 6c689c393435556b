# Training and export, with Paddle, ernie-train and ernie-build. Build in the root of the repository:
#   docker build -f docker/train.Dockerfile -t ernie-zh:train .
# For GPUs, give an image with CUDA and Python 3.10 as PYTHON_IMAGE, and
#   --build-arg PADDLE=paddlepaddle-gpu==2.6.2 --build-arg WITHOUT=paddlepaddle
ARG PYTHON_IMAGE=docker.io/library/python:3.10-slim-bookworm

FROM ${PYTHON_IMAGE} AS libraries
ARG UV_VERSION=0.13.9
ARG EXTRAS=train
ARG PADDLE=paddlepaddle==2.6.2
ARG WITHOUT=
WORKDIR /build
# --seed installs pip, with which `ernie-train data` downloads.
RUN python3 -m pip install --no-cache-dir --root-user-action=ignore "uv==${UV_VERSION}" && \
    uv venv --seed --python "$(command -v python3)" /opt/ernie
ENV VIRTUAL_ENV=/opt/ernie
COPY pyproject.toml constraints.txt ./
# hadolint ignore=SC2046
RUN printf '%s\n' ${WITHOUT} > excludes.txt && \
    uv pip install --no-cache --compile-bytecode --constraint constraints.txt --excludes excludes.txt \
        --requirement pyproject.toml $(printf -- '--extra %s ' ${EXTRAS}) "${PADDLE}"

FROM libraries AS package
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++
COPY CMakeLists.txt README.md LICENSE ./
COPY native native
COPY model_build model_build
COPY training training
RUN uv pip install --no-cache --compile-bytecode --no-deps --target /app \
        --config-setting 'wheel.packages=native;model_build;training' . && \
    rm /app/bin/ernie-serve /app/.lock

FROM ${PYTHON_IMAGE}
# Paddle is linked to libgomp.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ernie && \
    install --directory --owner 10001 --group 10001 /work
COPY --from=libraries /opt/ernie /opt/ernie
COPY --from=package /app /app
# Paddle's libraries write to HOME, so it must be writable for every user.
ENV PATH=/app/bin:/opt/ernie/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp
USER 10001:10001
WORKDIR /work
CMD ["ernie-train", "--help"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ernie-zh training" \
      org.opencontainers.image.description="ERNIE from Chinese text to a model bundle" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
