"""Beam's Spark job server with Spark in local mode, for the session."""

from pathlib import Path

import pytest

from tests.pipelines.flink.conftest import OPENED, job_server

# Spark reads more of Java's insides than Flink does.
MORE_OPENED = ("java.io", "java.lang.reflect", "sun.nio.cs", "sun.security.action", "sun.util.calendar")


@pytest.fixture(scope="session")
def spark_endpoint(tmp_path_factory):
    """`localhost:port` of a running job server."""
    opened = (*OPENED, *MORE_OPENED)
    with job_server(
        Path(__file__).with_name("pom.xml"),
        "org.apache.beam.runners.spark.SparkJobServerDriver",
        opened,
        tmp_path_factory.mktemp("spark"),
        "--spark-master-url=local[2]",
    ) as endpoint:
        yield endpoint
