# The service on CPUs, with FastDeploy, without Paddle, compiler and installer. Build in the root of the repository:
#   docker build -f docker/cpu.Dockerfile -t ernie-zh:cpu .
ARG PYTHON_IMAGE=docker.io/library/python:3.10-slim-bookworm

# Libraries change less often than code, so they have a separate layer, here and in the final image.
FROM ${PYTHON_IMAGE} AS libraries
ARG UV_VERSION=0.13.9
# For more runtimes: "serve fastdeploy openvino". For tracing: "serve fastdeploy otel".
ARG EXTRAS="serve fastdeploy"
WORKDIR /build
RUN python3 -m pip install --no-cache-dir --root-user-action=ignore "uv==${UV_VERSION}" && \
    uv venv --python "$(command -v python3)" /opt/ernie
ENV VIRTUAL_ENV=/opt/ernie
COPY pyproject.toml constraints.txt docker/slim.py ./
# In this folder uv reads [tool.uv] of pyproject.toml, with the overrides. The constraint on protobuf is for Paddle; the
# exporter of traces needs a later version.
# hadolint ignore=SC2046
RUN sed -i '/^protobuf==/d' constraints.txt && \
    uv pip install --no-cache --compile-bytecode --constraint constraints.txt \
        --requirement pyproject.toml $(printf -- '--extra %s ' ${EXTRAS}) && \
    python3 slim.py /opt/ernie/lib/python3.10/site-packages

FROM libraries AS package
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++
COPY CMakeLists.txt README.md LICENSE ./
COPY native native
COPY model_build model_build
COPY service service
# ernie-build keeps the commands that need no training: export, inspect and verify.
RUN uv pip install --no-cache --compile-bytecode --no-deps --target /app \
        --config-setting 'wheel.packages=native;model_build;service' . && \
    rm /app/bin/ernie-train /app/.lock && \
    sed -i 's/training\.cli\.ernie_build/model_build.cli/' /app/bin/ernie-build

FROM ${PYTHON_IMAGE}
# FastDeploy is linked to libgomp.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* && \
    python3 -m pip uninstall --yes --root-user-action=ignore pip setuptools wheel && \
    useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ernie
COPY --from=libraries /opt/ernie /opt/ernie
COPY models /app/models
COPY docker/healthcheck.py /app/healthcheck.py
COPY --from=package /app /app
ENV PATH=/app/bin:/opt/ernie/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    ERNIE_HOST=0.0.0.0 \
    ERNIE_PORT=8000 \
    ERNIE_MODELS=/models
USER 10001:10001
WORKDIR /app
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["python", "/app/healthcheck.py"]
ENTRYPOINT ["ernie-serve"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ernie-zh" \
      org.opencontainers.image.description="ERNIE over HTTP: classification and masked words of Chinese text" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
