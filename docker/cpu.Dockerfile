# The service on CPUs: FastDeploy, no Paddle, no compiler, no shell scripts. Build it from the root of the repository:
#   docker build -f docker/cpu.Dockerfile -t ernie-zh:cpu .
ARG PYTHON_IMAGE=docker.io/library/python:3.10-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /src
RUN python3 -m venv /opt/ernie && /opt/ernie/bin/python -m pip install --no-cache-dir uv
# Libraries change less often than code: their layer is kept.
COPY pyproject.toml constraints.txt ./
RUN VIRTUAL_ENV=/opt/ernie /opt/ernie/bin/uv pip install --no-cache --compile-bytecode \
        --constraint constraints.txt -r pyproject.toml --extra serve
COPY CMakeLists.txt README.md LICENSE ./
COPY native native
COPY model_build model_build
COPY service service
COPY training training
RUN VIRTUAL_ENV=/opt/ernie /opt/ernie/bin/uv pip install --no-cache --compile-bytecode --no-deps . && \
    rm -rf /opt/ernie/lib/python3.10/site-packages/training && \
    /opt/ernie/bin/python -m pip uninstall --yes uv pip

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="ernie-zh" \
      org.opencontainers.image.description="ERNIE over HTTP: classification and masked tokens of Chinese text" \
      org.opencontainers.image.licenses="Apache-2.0"
# FastDeploy's libraries want OpenMP.
RUN apt-get update && apt-get install -y --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* && \
    useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin ernie
COPY --from=build /opt/ernie /opt/ernie
COPY models /app/models
COPY docker/healthcheck.py /app/healthcheck.py
ENV PATH=/opt/ernie/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    ERNIE_HOST=0.0.0.0 \
    ERNIE_PORT=8000 \
    ERNIE_MODELS=/app/models
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "/app/healthcheck.py"]
ENTRYPOINT ["ernie-serve"]
