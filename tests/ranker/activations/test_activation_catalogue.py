"""Names, defaults and errors, without TensorFlow."""

import inspect
import subprocess
import sys

import pytest

from ranker import activations
from ranker.activations import catalogue
from ranker.errors import UserError


def test_the_catalogue_loads_no_tensorflow_and_no_numpy():
    program = (
        "import sys, ranker.activations, ranker.activations.catalogue as c;"
        "c.validate('rescu', {'kernel': [1, 2]}); ranker.activations.names();"
        "print([m for m in ('tensorflow', 'tf_keras', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_defaults_are_the_functions_own():
    for name in activations.names():
        signature = inspect.signature(getattr(activations, name))
        defaults = {key: p.default for key, p in signature.parameters.items() if key != "x"}
        assert activations.parameters(name) == defaults


def test_every_public_name_is_there():
    for name in activations.__all__:
        assert getattr(activations, name) is not None
        assert name in dir(activations)
    with pytest.raises(AttributeError, match="nonsense"):
        activations.nonsense  # noqa: B018


def test_defaults_are_filled_in_and_given_values_kept():
    assert catalogue.validate("gsmelu", {"alpha": 2, "level": -1.0}) == {
        "alpha": 2,
        "beta": 1.0,
        "slope_left": 0.0,
        "slope_right": 1.0,
        "level": -1.0,
    }


@pytest.mark.parametrize(
    ("name", "params", "message"),
    [
        ("smelu", {"beta": -1.0}, "`beta` of smelu must be a finite number >= 0. Received: beta=-1.0"),
        ("smelu", {"beta": "1"}, "`beta` of smelu must be a finite number >= 0. Received: beta='1'"),
        ("smelu", {"beta": True}, "`beta` of smelu must be a finite number >= 0. Received: beta=True"),
        ("softplus", {"beta": 0}, "`beta` of softplus must be a finite number > 0. Received: beta=0"),
        ("relu", {"beta": 1.0}, "`relu` takes no parameters. Received: beta=1.0"),
        ("swish", {"gamma": 1.0}, "`swish` takes beta. Received: gamma=1.0"),
        (
            "rescu",
            {"kernel": "bx"},
            "`kernel` of rescu must be the name of a kernel or a list of weights >= 0 with a positive sum "
            "(kernels: box, triangular, cosine",
        ),
        ("smlu", {}, "An activation's `name` must be one of smelu, gsmelu, rescu, "),
        (None, {}, "An activation's `name` must be one of "),
    ],
)
def test_errors_name_the_thing_the_rule_and_the_value(name, params, message):
    with pytest.raises(UserError) as caught:
        catalogue.validate(name, params)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    assert "Received: " in str(caught.value)


@pytest.mark.parametrize("spec", [3, None, {"beta": 1.0}, ["smelu"]])
def test_a_specification_is_a_name_or_a_mapping_with_a_name(spec):
    with pytest.raises(UserError, match="An activation must be a name or a mapping with `name`"):
        activations.get(spec)
