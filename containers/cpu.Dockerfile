# gad on processors:  docker build -f containers/cpu.Dockerfile -t gad:cpu .
FROM python:3.13-slim-bookworm AS build
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY generalad generalad
RUN python -m venv /opt/gad \
    && /opt/gad/bin/pip install --no-cache-dir --constraint constraints.txt \
        '.[cpu,serve,streams,sign]'

FROM python:3.13-slim-bookworm
COPY --from=build /opt/gad /opt/gad
ENV PATH=/opt/gad/bin:$PATH
RUN useradd --uid 10001 --home-dir /data --create-home gad
USER 10001
WORKDIR /data
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["gad"]
CMD ["serve", "/models", "--host", "0.0.0.0", "--token", "${file:/run/secrets/gad_token}"]
