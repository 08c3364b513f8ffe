"""The miner's side: samplers, and the way from an assignment to a committed, published batch."""
