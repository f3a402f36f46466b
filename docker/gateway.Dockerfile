# `ranker gateway`: Envoy in front of the replicas, or the file of replicas that an Envoy beside it watches. No TensorFlow.
# docker build -f docker/gateway.Dockerfile -t steady-ranker/gateway .
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ranker ranker
COPY pipelines pipelines
COPY serving serving
RUN pip install --constraint constraints.txt ".[gateway]"

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin ranker && install -d -o 10001 /gateway
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_USE_LEGACY_KERAS=1
USER 10001
EXPOSE 8600 8601
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8601/healthz', timeout=3)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["ranker"]
CMD ["gateway", "--run-dir", "/run/ranker", "--listen", "0.0.0.0:8600", "--metrics", "0.0.0.0:8601", "--replicas-file", "/gateway/replicas.json"]
