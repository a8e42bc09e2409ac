"""What a change of the suspect costs: clean accuracy on held-out rows, beside the suspect's own and the limit."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from rora_cli.data.rows import Rows
from rora_cli.results.accuracy import CleanAccuracy
from rora_cli.subject import Subject
from rora_cli.tasks.correction import Proposal
from rora_cli.tasks.task import TrainedTask
from rora_cli.training.run import Run


@dataclass
class Gauge:
    """Measures models on ``held_out`` rows. Every process calls the methods, in the same order, and gets the same.

    Attributes:
        task: what the model is asked to do.
        subject: the suspect.
        held_out: clean rows that no training sees.
        limit: clean accuracy that may be lost overall, as a fraction of the rows; ``CleanAccuracy.loss_beyond`` has the
            rule for single classes.
        run: the device, and who hears what is done.
        before: the suspect's own accuracy, once ``start`` was called.
    """

    task: TrainedTask
    subject: Subject
    held_out: Rows
    limit: float
    run: Run
    before: CleanAccuracy | None = None

    def start(self) -> CleanAccuracy:
        """Measure the suspect as it is, which everything is compared with."""
        self.before = self.measure(self.subject.model, name="clean accuracy before")
        return self.before

    def measure(self, model: nn.Module, *, name: str | None = None) -> CleanAccuracy:
        """Clean accuracy of ``model``; a bar is shown under ``name``.

        Raises:
            InconclusiveError: the model's answers are not finite.
        """
        subject = self.subject.having(model.to(self.run.device))
        if name is None:
            return self.task.quality(subject, self.held_out)
        with self.run.progress.phase(name, len(self.held_out)) as meter:
            shown = self.task.shows(subject, self.held_out.texts, meter=meter)
        return self.task.quality(subject, self.held_out, shown=shown)

    def propose(self, model: nn.Module) -> Proposal:
        """The task's correction for ``model``, not yet made; without one, what ``model`` is now."""
        subject, correction = self.subject.having(model), self.task.correction
        if correction is None:
            return Proposal(self.task.quality(subject, self.held_out))
        return correction.propose(subject, self.held_out, self._suspects_own(), self.limit)

    def beyond(self, model: nn.Module) -> float:
        """Accuracy (fraction) that ``model``, once corrected, loses beyond the limit; 0.0 if it keeps to it."""
        return self.loss_beyond(self.propose(model))

    def loss_beyond(self, proposal: Proposal) -> float:
        """Accuracy (fraction) that a corrected model loses beyond the limit; 0.0 if it keeps to it."""
        return proposal.quality.loss_beyond(self._suspects_own(), self.limit)

    def _suspects_own(self) -> CleanAccuracy:
        assert self.before is not None, "start measures the suspect first"
        return self.before
