# The service on NVIDIA GPUs, with the GPU build of FastDeploy. Build in the root of the repository:
#   docker build -f docker/gpu.Dockerfile --build-arg FASTDEPLOY_WHEELS=https://www.paddlepaddle.org.cn/whl/fastdeploy.html \
#       -t ernie-zh:gpu .
# FastDeploy 1.0.7 is built for CUDA 11.2 and cuDNN 8.2, needs at least CUDA 11.2 and cuDNN 8.0, and includes TensorRT 8.5.
# Ubuntu 22.04 has Python 3.10. Only the sources of Python and FastDeploy differ from cpu.Dockerfile.
ARG CUDA_IMAGE=docker.io/nvidia/cuda:11.8.0-cudnn8-runtime-ubuntu22.04

FROM ${CUDA_IMAGE} AS libraries
ARG UV_VERSION=0.13.9
ARG EXTRAS="serve fastdeploy"
# A page with links to the wheels, or a folder in the image. On PyPI, the package of this name is an empty stub.
ARG FASTDEPLOY_WHEELS
WORKDIR /build
# hadolint ignore=DL3008,DL3009
RUN apt-get update && apt-get install --yes --no-install-recommends python3 python3-pip && \
    python3 -m pip install --no-cache-dir "uv==${UV_VERSION}" && \
    uv venv --python "$(command -v python3)" /opt/ernie
ENV VIRTUAL_ENV=/opt/ernie
COPY pyproject.toml constraints.txt docker/slim.py ./
# The constraint on protobuf is for Paddle; the exporter of traces needs a later version.
# FastDeploy makes links to its TensorRT at the first import, which is not possible in a read-only image; so make them here.
# hadolint ignore=SC2046
RUN sed -i '/^protobuf==/d' constraints.txt && \
    echo fastdeploy-python > excludes.txt && \
    uv pip install --no-cache --compile-bytecode --constraint constraints.txt --excludes excludes.txt \
        --requirement pyproject.toml $(printf -- '--extra %s ' ${EXTRAS}) \
        --find-links "${FASTDEPLOY_WHEELS:?is the page of the wheels}" fastdeploy-gpu-python==1.0.7 && \
    python3 slim.py /opt/ernie/lib/python3.10/site-packages && \
    for library in /opt/ernie/lib/python3.10/site-packages/fastdeploy/libs/third_libs/tensorrt/lib/*.so.8; do \
        ln -sfn "$(basename "${library}")" "${library%.8}"; done

FROM libraries AS package
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends g++ python3-dev
COPY CMakeLists.txt README.md LICENSE ./
COPY native native
COPY model_build model_build
COPY service service
# ernie-build keeps the commands that need no training: export, inspect and verify.
RUN uv pip install --no-cache --compile-bytecode --no-deps --target /app \
        --config-setting 'wheel.packages=native;model_build;service' . && \
    rm /app/bin/ernie-train /app/.lock && \
    sed -i 's/training\.cli\.ernie_build/model_build.cli/' /app/bin/ernie-build

FROM ${CUDA_IMAGE}
# FastDeploy is linked to libgomp.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 python3 && rm -rf /var/lib/apt/lists/* && \
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
    ERNIE_MODELS=/models \
    ERNIE_DEVICE=gpu
USER 10001:10001
WORKDIR /app
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 CMD ["python", "/app/healthcheck.py"]
ENTRYPOINT ["ernie-serve"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ernie-zh" \
      org.opencontainers.image.description="ERNIE over HTTP: classification and masked words of Chinese text" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
