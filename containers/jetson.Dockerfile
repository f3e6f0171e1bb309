# gad on Jetson:  docker build -f containers/jetson.Dockerfile --build-arg ONNXRUNTIME=URL -t gad:jetson .
#                 docker run --runtime nvidia …
# No registry has an ONNX Runtime for Jetson's cards: name the wheel that suits the JetPack of BASE and
# its Python. TensorRT is the one of JetPack, seen from the environment.
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}
ARG ONNXRUNTIME
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY generalad generalad
RUN python3 -m venv --system-site-packages /opt/gad \
    && grep --invert-match '^onnxruntime==' constraints.txt > /tmp/constraints.txt \
    && /opt/gad/bin/pip install --no-cache-dir --constraint /tmp/constraints.txt \
        "${ONNXRUNTIME}" '.[serve,streams,sign]' \
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
