# gad on NVIDIA cards:  docker build -f containers/cuda.Dockerfile -t gad:cuda .
#                       docker run --gpus all …
# ONNX Runtime needs the CUDA and cuDNN of its own release; TensorRT engines need what built them.
ARG BASE=nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY generalad generalad
# The constraints name ONNX Runtime for processors; the one for cards excludes it.
RUN python3 -m venv /opt/gad \
    && grep --invert-match '^onnxruntime==' constraints.txt > /tmp/constraints.txt \
    && /opt/gad/bin/pip install --no-cache-dir --constraint /tmp/constraints.txt \
        '.[cuda,serve,streams,sign]' \
    && rm -rf /src
ENV PATH=/opt/gad/bin:$PATH
RUN useradd --uid 10001 --home-dir /data --create-home gad
USER 10001
WORKDIR /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python3", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["gad"]
CMD ["serve", "/models", "--host", "0.0.0.0", "--token", "${file:/run/secrets/gad_token}"]
