# The monitor: asks the replicas, measures, stores, alerts. No TensorFlow inside. Port 8602 takes mirrored calls, 8603 is metrics.
# docker build -f docker/monitor.Dockerfile -t steady-ranker/monitor .
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ranker ranker
COPY pipelines pipelines
COPY serving serving
RUN pip install --constraint constraints.txt ".[monitor,parquet]"

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin ranker
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_USE_LEGACY_KERAS=1
USER 10001
EXPOSE 8602 8603
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8603/metrics', timeout=3)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["ranker"]
CMD ["monitor", "--run-dir", "/run/ranker", "--mirror-listen", "0.0.0.0:8602", "--metrics", "0.0.0.0:8603"]
