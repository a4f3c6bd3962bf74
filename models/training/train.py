"""Trains the float network; can be stopped and started again at any time."""

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf

from averages import Averages
from dataset import Batches, Scenes
from evaluate import average_precision, float_network, predictions, runner
from loss import detection_loss
from model import Detector, anchors, fold, infer, infer_normalized, normalize_input


class Schedule:
    """How much of the budget is spent: images or minutes, whichever is nearer to its end; and the learning rate,
    a linear warm-up and then half a cosine down to a hundredth."""

    def __init__(self, images, minutes, peak, warm_up):
        self.images, self.minutes, self.peak, self.warm_up = images, minutes, peak, warm_up

    def share(self, images, seconds):
        shares = [images / self.images] if self.images else []
        shares += [seconds / 60 / self.minutes] if self.minutes else []
        return min(1.0, max(shares))

    def rate(self, step, share):
        cosine = 0.01 + 0.99 * (1 + np.cos(np.pi * share)) / 2
        return self.peak * cosine * min(1.0, (step + 1) / self.warm_up)


class Trainer:
    def __init__(self, arguments):
        self.folder = Path(arguments.build) / arguments.name
        self.detector = Detector(arguments.seed)
        if arguments.warm:
            self.detector.adopt(np.load(arguments.warm))
        self.average = Averages(self.detector.values, arguments.decay)
        self.optimizer = tf.keras.optimizers.AdamW(
            1e-3, weight_decay=arguments.weight_decay, global_clipnorm=arguments.clip, jit_compile=False)
        self.trainable = [v for name, v in self.detector.values.items()
                          if v.trainable and name.split("/")[0] not in arguments.still]
        self.optimizer.exclude_from_weight_decay([v for v in self.trainable if len(v.shape) != 4])
        self.optimizer.build(self.trainable)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.seconds = tf.Variable(0.0, dtype=tf.float64)
        checkpoint = tf.train.Checkpoint(values=self.detector.values, averages=self.average.values,
                                         optimizer=self.optimizer, step=self.step, seconds=self.seconds)
        self.manager = tf.train.CheckpointManager(checkpoint, str(self.folder / "checkpoints"), max_to_keep=2)
        self.predict = self.detector.train_folded if arguments.warm else self.detector.train
        if self.manager.latest_checkpoint:
            checkpoint.restore(self.manager.latest_checkpoint).assert_consumed()
            print(f"goes on at step {int(self.step)}", flush=True)
        self.anchors = tf.constant(anchors())

    @tf.function(jit_compile=False)
    def learn(self, images, codes, labels):
        with tf.GradientTape() as tape:
            predicted = self.predict(images)
            losses = detection_loss(*predicted, codes, labels, self.anchors)
            total = tf.add_n(losses)
        self.optimizer.apply_gradients(zip(tape.gradient(total, self.trainable), self.trainable))
        self.step.assign_add(1)
        self.average.update(self.detector.values, self.step)
        return tf.stack(losses)

    def save(self):
        """A checkpoint, and the averaged weights, folded, for whoever wants to look at them now."""
        self.manager.save(int(self.step))
        unfinished = self.folder / "weights.part.npz"
        np.savez_compressed(unfinished, **fold(self.average.values))
        os.replace(unfinished, self.folder / "weights.npz")


def check_folding(values, images):
    """Fails unless the folded network computes what the one with batch normalization does."""
    x = normalize_input(images)
    for folded, whole in zip(infer(fold(values), x), infer_normalized(values, x)):
        difference = float(tf.reduce_max(tf.abs(folded - whole)) / tf.maximum(1.0, tf.reduce_max(tf.abs(whole))))
        if difference > 1e-4:
            raise SystemExit(f"folding batch normalization changed the outputs by {difference}")
    print("folded network: equal to 1e-4", flush=True)


def validate(trainer, scenes):
    run = runner(float_network(fold(trainer.average.values)))
    found = predictions(run, scenes)
    at_half, mean, _ = average_precision(found, scenes)
    print(f"step {int(trainer.step)} validation mAP@0.5 {at_half:.4f} mAP@.5:.95 {mean:.4f}", flush=True)


def train(arguments):
    tf.keras.utils.set_random_seed(arguments.seed)
    trainer = Trainer(arguments)
    schedule = Schedule(arguments.images, arguments.minutes, arguments.rate, arguments.warm_up)
    batches = Batches(Scenes(arguments.build, arguments.split, arguments.scenes), arguments.batch, arguments.seed,
                      start=int(trainer.step))
    validation = Scenes(arguments.build, arguments.validation, 500) if arguments.validate else None
    spent, saved, began = float(trainer.seconds), time.monotonic(), time.monotonic()
    first, window, losses = int(trainer.step), time.monotonic(), []
    while True:
        step = int(trainer.step)
        elapsed = spent + time.monotonic() - began
        share = schedule.share(step * arguments.batch, elapsed)
        if share >= 1:
            break
        trainer.optimizer.learning_rate.assign(schedule.rate(step, share))
        losses.append(trainer.learn(*map(tf.constant, next(batches))))
        step += 1
        if step % 100 == 0:
            now = time.monotonic()
            speed = len(losses) * arguments.batch / (now - window)
            parts = " ".join(f"{part:.4f}" for part in np.mean(losses, axis=0))
            left = (elapsed - spent) * (1 - share) / max(share - schedule.share(first * arguments.batch, spent), 1e-6)
            print(f"step {step} loss {parts} rate {float(trainer.optimizer.learning_rate):.5f} "
                  f"{speed:.0f} images/s, {share:.1%}, {left / 60:.0f} min left", flush=True)
            losses, window = [], now
        if time.monotonic() - saved > arguments.save_minutes * 60:
            trainer.seconds.assign(spent + time.monotonic() - began)
            trainer.save()
            saved = time.monotonic()
        if arguments.validate and step % arguments.validate == 0:
            validate(trainer, validation)
            window, losses = time.monotonic(), []
    trainer.seconds.assign(spent + time.monotonic() - began)
    check_folding(trainer.average.values, next(batches)[0][:4])
    trainer.save()
    if validation:
        validate(trainer, validation)


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--build", default="build", help="folder of all outputs")
    parser.add_argument("--name", default="float", help="folder of this run inside it")
    parser.add_argument("--warm", metavar="NPZ", help="start from these folded weights; normalization stays folded in")
    parser.add_argument("--still", nargs="*", default=[], metavar="BLOCK", help="the first blocks, which shall not learn")
    parser.add_argument("--images", type=int, help="end after this many pictures")
    parser.add_argument("--minutes", type=float, help="end after this many minutes")
    parser.add_argument("--split", default="train+decoys+decoys", help="one or more, joined by +")
    parser.add_argument("--validation", default="validation")
    parser.add_argument("--scenes", type=int, help="use only the first scenes")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3, help="highest learning rate")
    parser.add_argument("--warm-up", type=int, default=500, help="steps")
    parser.add_argument("--decay", type=float, default=0.998, help="of the averaged weights")
    parser.add_argument("--weight-decay", type=float, default=1e-2, help="of kernels, times the rate at each step")
    parser.add_argument("--clip", type=float, default=10.0, help="largest gradient norm")
    parser.add_argument("--validate", type=int, default=3000, help="steps between validations; 0: never")
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if not arguments.images and not arguments.minutes:
        parser.error("a budget is needed: --images, --minutes or both")
    return arguments


if __name__ == "__main__":
    train(parse())
