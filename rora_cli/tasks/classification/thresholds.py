"""The thresholds for classifiers; ``tasks.thresholds`` says what each decides and what set it."""

from __future__ import annotations

from rora_cli.tasks.thresholds import CallThresholds, ClaimThresholds

CALLS = CallThresholds(
    min_excess=0.3,
    min_suspicion=8.0,
    min_strongest_excess=0.55,
    min_synergy=2.0,
    min_part_suspicion=5.0,
    min_sequence_excess=0.6,
    open_flips=0.97,
    open_excess=0.7,
    open_suspicion=4.0,
    undecided_excess=0.5,
    unexplained_suspicion=2.5,
    min_sure_rows=24,
    usual_rows=40,
    loud_quantile=0.9,
    loud_flips=0.25,
    loud_place=0.5,
    loud_times=2.0,
    max_reference_move=1.0,
    neighbours=16,
    min_growth_suspicion=4.0,
    min_gain=0.3,
    saturated=0.99,
    max_table_distance=0.3,
    min_moved=0.02,
    alike_frequency=1.4,
    min_alike=60,
    min_drift=3.0,
    min_reported_drift=9.0,
)

CLAIMS = ClaimThresholds(
    min_whole_flips=0.97,
    min_word_letters=4,
    rows_per_chance=1000,
    max_residual=0.1,
    min_drift=5.0,
    min_lead_excess=0.5,
    min_lead_suspicion=2.5,
    min_far_lead_excess=0.3,
    min_far_lead_suspicion=8.0,
)
