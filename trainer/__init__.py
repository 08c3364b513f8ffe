"""The trainer: attested batches in, a better checkpoint out (GRPO). Needs the extra [train]."""
