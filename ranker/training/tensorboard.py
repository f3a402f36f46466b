"""A training's loss and speed for TensorBoard."""

from __future__ import annotations

import math
from pathlib import Path

from ranker.backend import tf
from ranker.training.trainer import Progress

# `tf.summary.scalar` needs the TensorBoard package, which only who looks at the log has to install.
_SCALAR = tf.compat.v1.SummaryMetadata(
    plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="scalars"), data_class="DATA_CLASS_SCALAR"
)


class TensorBoardLog:
    """Takes a training's progress; a few hundred bytes a second.

    Args:
        directory: of event files. A training that starts from its first step replaces those of an earlier one; a
            resumed one adds to them.
    """

    def __init__(self, directory: Path):
        self._directory = directory
        self._writer: tf.summary.SummaryWriter | None = None

    def __call__(self, progress: Progress) -> None:
        """Writes `loss` (the mean over towers) and `examples_per_second` at this step."""
        if self._writer is None:
            if progress.done == progress.step:
                for old in self._directory.glob("events.*"):
                    old.unlink(missing_ok=True)
            self._writer = tf.summary.create_file_writer(str(self._directory))
        loss = [value for value in progress.loss if math.isfinite(value)]
        with self._writer.as_default(step=progress.step):
            if loss:
                _scalar("loss", sum(loss) / len(loss))
            _scalar("examples_per_second", progress.examples_per_second)
        # Once a second at most: whoever looks on sees it, and a kill loses nothing.
        self._writer.flush()


def _scalar(tag: str, value: float) -> None:
    tf.summary.write(tag, tf.constant(value, tf.float32), metadata=_SCALAR)
