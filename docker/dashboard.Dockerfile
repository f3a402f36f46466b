# The dashboard. No TensorFlow inside. Listens on every interface: give it RANKER_DASHBOARD_TOKEN.
# docker build -f docker/dashboard.Dockerfile -t steady-ranker/dashboard .
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ranker ranker
COPY pipelines pipelines
COPY serving serving
RUN pip install --constraint constraints.txt ".[dashboard]"

# Scatter and bar charts alone: a quarter of the script that a browser reads. The version is that of the library's own bundle.
FROM node:22.20.0-bookworm-slim AS plotly
WORKDIR /source
RUN npm pack --silent plotly.js-basic-dist-min@4.1.1 && tar -xzf plotly.js-basic-dist-min-4.1.1.tgz

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin ranker
COPY --from=build /opt/venv /opt/venv
COPY --from=plotly /source/package/plotly-basic.min.js /opt/plotly-basic.min.js
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_USE_LEGACY_KERAS=1
USER 10001
EXPOSE 8050
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8050/healthz', timeout=3)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["ranker"]
CMD ["dashboard", "--run-dir", "/run/ranker", "--host", "0.0.0.0", "--plotly-js", "/opt/plotly-basic.min.js"]
