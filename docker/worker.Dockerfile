# The pipeline image as a Beam worker: a cluster's engine starts it through Beam's own boot program.
# docker build -f docker/pipeline.Dockerfile -t steady-ranker/pipeline . && docker build -f docker/worker.Dockerfile -t steady-ranker/worker .
FROM apache/beam_python3.11_sdk:2.77.0 AS beam

FROM steady-ranker/pipeline
COPY --from=beam /opt/apache/beam /opt/apache/beam
USER 10001
ENTRYPOINT ["/opt/apache/beam/boot"]
CMD []
