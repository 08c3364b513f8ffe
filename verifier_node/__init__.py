"""The verifier's node: watches the chain, checks batches it is drawn for, commits and reveals."""
