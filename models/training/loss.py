"""The loss: sigmoid focal loss over anchors and classes (Lin et al., arXiv:1708.02002), cross entropy between the classes
where there is a code, smooth L1 of the box codes and generalized IoU of the boxes (Rezatofighi et al., arXiv:1902.09630),
each divided by the number of positive anchors.

The focal loss finds codes long before it tells the kinds apart, as nearly all its gradient is about code or no code; the
cross entropy is about the kind alone.
"""

import tensorflow as tf

from targets import IGNORED, SCALES

ALPHA, GAMMA = 0.25, 2.0
CLASS_WEIGHT, CODE_WEIGHT, GIOU_WEIGHT = 1.0, 0.5, 1.0


def focal(logits, labels):
    """Sum over anchors that are not ignored. `labels`: class id, or negative for none."""
    wanted = tf.one_hot(labels, logits.shape[-1])
    entropy = tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits)
    probability = tf.sigmoid(logits)
    missed = wanted + probability - 2 * wanted * probability
    balance = 1 - ALPHA + (2 * ALPHA - 1) * wanted
    counted = tf.cast(labels != IGNORED, tf.float32)[..., None]
    return tf.reduce_sum(counted * balance * missed ** GAMMA * entropy)


def boxes_of(codes, anchors):
    codes = codes / SCALES
    centre = codes[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = tf.exp(tf.minimum(codes[:, 2:], 4.0)) * anchors[:, 2:] / 2
    return centre - half, centre + half


def giou(codes, wanted, anchors):
    """Generalized IoU [n] of the boxes behind two lists of codes."""
    low, high = boxes_of(codes, anchors)
    wanted_low, wanted_high = boxes_of(wanted, anchors)

    def area(start, end):
        return tf.reduce_prod(tf.maximum(end - start, 0.0), axis=1)

    shared = area(tf.maximum(low, wanted_low), tf.minimum(high, wanted_high))
    union = area(low, high) + area(wanted_low, wanted_high) - shared
    hull = area(tf.minimum(low, wanted_low), tf.maximum(high, wanted_high))
    return shared / (union + 1e-9) - (hull - union) / (hull + 1e-9)


def detection_loss(codes, logits, wanted_codes, labels, anchors):
    """(focal, class, code, giou) losses, weighted: scalars to add up."""
    chosen = tf.where(labels >= 0)
    count = tf.maximum(tf.cast(tf.shape(chosen)[0], tf.float32), 1.0)
    codes, wanted = tf.gather_nd(codes, chosen), tf.gather_nd(wanted_codes, chosen)
    shapes = tf.gather(anchors, chosen[:, 1])
    kinds = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather_nd(labels, chosen), tf.gather_nd(logits, chosen))
    distance = tf.abs(codes - wanted)
    smooth = tf.where(distance < 1, 0.5 * distance ** 2, distance - 0.5)
    return (
        focal(logits, labels) / count,
        CLASS_WEIGHT * tf.reduce_sum(kinds) / count,
        CODE_WEIGHT * tf.reduce_sum(smooth) / count,
        GIOU_WEIGHT * tf.reduce_sum(1 - giou(codes, wanted, shapes)) / count,
    )
