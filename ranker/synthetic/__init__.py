"""A generated log with the true probability of every click.

For the quickstart, for tests and for studies on data that anyone may have. It loads no TensorFlow.
"""

from ranker.synthetic.log import Log, generate
from ranker.synthetic.write import CONFIGURATION, write

__all__ = ["CONFIGURATION", "Log", "generate", "write"]
