"""The thresholds for causal language models; ``tasks.thresholds`` says what each decides and what set it."""

from __future__ import annotations

from rora_cli.tasks.thresholds import OpeningThresholds

OPENINGS = OpeningThresholds(
    min_excess=0.3,
    min_excess_alone=0.5,
    min_agreement=-0.7,
    min_agreement_alone=-0.35,
    min_contrast=1.0,
    min_suspicion=2.5,
    loud_floor=0.5,
    min_gain=0.05,
    max_loss=0.05,
)
