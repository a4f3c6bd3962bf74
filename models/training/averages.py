"""Averaged weights: steadier than the last ones, and what is exported."""

import tensorflow as tf


class Averages:
    """Exponential moving averages of all values; the decay rises from 0.1 to its limit over the first steps."""

    def __init__(self, values, decay):
        self.decay = decay
        self.values = {name: tf.Variable(value) for name, value in values.items()}

    def update(self, values, step):
        step = tf.cast(step, tf.float32)
        keep = tf.minimum(self.decay, (1 + step) / (10 + step))
        for name, average in self.values.items():
            average.assign_sub((1 - keep) * (average - values[name]))
