"""The package stands alone: fast to import, NumPy only, examples that run."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

from ranker import divergence

MODULES = sorted(f"ranker.divergence.{module.name}" for module in pkgutil.iter_modules(divergence.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    importlib.import_module(name)
    assert doctest.testmod(sys.modules[name]).failed == 0


def test_every_two_model_measure_and_quality_measure_has_an_example():
    for name, found in divergence.CATALOGUE.items():
        assert ">>>" in found.function.__doc__, name


def test_importing_loads_neither_tensorflow_nor_scipy():
    code = (
        "import sys, ranker.divergence as d; "
        "heavy = {'tensorflow', 'tf_keras', 'scipy', 'pandas', 'apache_beam', 'grpc', 'pydantic', 'pyarrow'}; "
        "print(sorted(heavy & {name.partition('.')[0] for name in sys.modules}), len(d.__all__))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.split("] ")[0] == "["
    assert all(hasattr(divergence, name) for name in divergence.__all__)
