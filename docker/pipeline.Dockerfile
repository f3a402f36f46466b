# Prepare, train and evaluate: a job, not a service.
# docker build -f docker/pipeline.Dockerfile -t steady-ranker/pipeline .
FROM python:3.11.13-slim-bookworm AS build
WORKDIR /source
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY ranker ranker
COPY pipelines pipelines
COPY serving serving
RUN pip install --constraint constraints.txt ".[beam]"

FROM python:3.11.13-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin ranker
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 TF_USE_LEGACY_KERAS=1
USER 10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["ranker"]
CMD ["run", "--help"]
