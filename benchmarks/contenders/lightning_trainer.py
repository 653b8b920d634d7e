"""Lightning's Trainer with its extras off: no progress bar, logger, checkpoints, model summary or sanity check.

``lightning`` logs the validation loss and accuracy and nothing per step, the cheapest configuration with validation.
``lightning-logged`` also logs the training loss with ``self.log``, as in Lightning's examples.
"""

from __future__ import annotations

import logging
import time
import warnings
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

from contenders.interface import LEARNING_RATE, Contender, Problem, Run, Timing
from contenders.network import network_of

__all__ = ["LIGHTNING", "LIGHTNING_LOGGED"]


def prepare(problem: Problem, seed: int, *, log_training: bool) -> Run:
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.model = network_of(problem)

        def training_step(self, batch: list[torch.Tensor], batch_index: int) -> torch.Tensor:
            inputs, targets = batch
            loss = F.cross_entropy(self.model(inputs), targets)
            if log_training:
                self.log("train_loss", loss, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: list[torch.Tensor], batch_index: int) -> None:
            inputs, targets = batch
            logits = self.model(inputs)
            self.log("validation_loss", F.cross_entropy(logits, targets))
            self.log("validation_accuracy", (logits.argmax(1) == targets).float().mean())

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), lr=LEARNING_RATE)

    train = TensorDataset(torch.from_numpy(problem.x_train), torch.from_numpy(problem.y_train))
    validation = TensorDataset(torch.from_numpy(problem.x_validation), torch.from_numpy(problem.y_validation))
    train_loader = DataLoader(train, batch_size=problem.batch_size, shuffle=True, num_workers=0)
    validation_loader = DataLoader(validation, batch_size=len(validation), num_workers=0)

    def run(epochs: int) -> Timing:
        torch.manual_seed(seed)
        with TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the number of workers, which the benchmark sets
            module = Module()
            trainer = lightning.Trainer(
                max_epochs=epochs,
                accelerator="cpu",
                devices=1,
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                default_root_dir=folder,
            )
            start = time.perf_counter()
            trainer.fit(module, train_loader, validation_loader)
            seconds = time.perf_counter() - start
        accuracy = trainer.callback_metrics["validation_accuracy"].item()
        return Timing(trainer.global_step, seconds, accuracy)

    return run


_OFF = (
    "progress bar, logger, checkpoints, model summary, sanity check OFF; DataLoader workers 0, "
    "Adam with its defaults"
)

LIGHTNING = Contender(
    name="lightning",
    on=f"{_OFF}; training loss not logged",
    packages=("torch", "lightning"),
    variants={"": partial(prepare, log_training=False)},
    sizes=("small", "large", "images"),
)
LIGHTNING_LOGGED = Contender(
    name="lightning-logged",
    on=f"{_OFF}; training loss logged with self.log once per epoch",
    packages=("torch", "lightning"),
    variants={"": partial(prepare, log_training=True)},
    extra=True,
)
