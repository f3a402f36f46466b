"""The package stands alone: fast to import, NumPy only, examples that run."""

import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import pytest

from ranker import divergence
from ranker.divergence.document import page

MODULES = sorted(f"ranker.divergence.{module.name}" for module in pkgutil.iter_modules(divergence.__path__))


@pytest.mark.parametrize("name", MODULES)
def test_examples_print_what_they_say(name):
    importlib.import_module(name)
    assert doctest.testmod(sys.modules[name]).failed == 0


def test_every_two_model_measure_and_quality_measure_has_an_example():
    for name, definition in divergence.CATALOGUE.items():
        assert ">>>" in definition.function.__doc__, name


@pytest.mark.parametrize("name", divergence.CATALOGUE)
def test_a_docstring_says_what_the_catalogue_says(name):
    definition = divergence.CATALOGUE[name]
    docstring = " ".join(inspect.getdoc(definition.function).split())
    assert docstring.startswith(f"{definition.title} ")
    for heading in ("formula", "range", "source"):
        text = getattr(definition, heading)
        assert text
        # The whole section: the next one, or another part of the docstring, follows.
        _, section, after = docstring.partition(f"{heading.capitalize()}: {text}")
        assert section, f"{heading} of {name}"
        assert re.match(r" [A-Z][a-z]+:|$", after), f"{heading} of {name}: {after[:40]!r}"


def test_definitions_do_not_need_docstrings():
    code = (
        "import sys; from ranker import divergence; from ranker.divergence.document import page; "
        "sys.exit('docstrings are there') if divergence.compare.__doc__ else print(page(), end='')"
    )
    stripped = subprocess.run(
        [sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert stripped.stdout == page()


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
