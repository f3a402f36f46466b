"""Run by the contract suite in a process of its own: our functions inside Keras 3, and its oracle."""

import numpy as np
import tensorflow as tf

from ranker.activations import get, names, smelu

if __name__ == "__main__":
    import keras  # here, as whoever collects tests imports this file into a process that holds Keras 2

    assert keras.version().startswith("3.")
    x = np.concatenate([np.linspace(-8, 8, 1601), [-1e30, 1e30]]).astype("float32")
    for beta in (0.125, 0.5, 1.0, 2.0, 5.0):
        tensor = tf.constant(x)
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(tensor)
            ours, oracle = smelu(tensor, beta), beta * keras.activations.sparse_plus(tensor / beta)
        np.testing.assert_allclose(ours, oracle, rtol=1e-6, atol=1e-6)
        knots = np.abs(np.abs(x) - beta) < 1e-5  # there the oracle's select gives either side's slope
        slopes = [tape.gradient(y, tensor).numpy()[~knots] for y in (ours, oracle)]
        np.testing.assert_allclose(*slopes, atol=1e-6)

    inputs = outputs = keras.Input([4])
    for name in names():
        outputs = keras.layers.Lambda(get(name))(keras.layers.Dense(4, activation=get(name))(outputs))
    model = keras.Model(inputs, outputs)
    model.compile("sgd", "mse")
    assert np.isfinite(model.fit(np.ones([8, 4]), np.ones([8, 4]), verbose=0).history["loss"]).all()
    print("agree")
