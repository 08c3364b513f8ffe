"""Environments: specs, tasks, checkers in isolated worker processes, and whole-batch checks."""
