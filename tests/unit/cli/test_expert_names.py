"""Environments of a comparison: each once, and none hidden behind another's name."""

from __future__ import annotations

from dataclasses import dataclass

from marketplace.cli.experts import by_name


@dataclass(frozen=True)
class Spec:
    name: str
    kind: int


@dataclass(frozen=True)
class Built:
    spec: Spec


def test_two_environments_of_one_name_are_two():
    sums, other = Built(Spec("sums", 1)), Built(Spec("sums", 2))
    found = by_name([(2, sums), (3, other), (4, sums), (5, other), (6, Built(Spec("nim", 1)))])
    assert list(found) == ["sums", "sums (expert 3)", "nim"]
    assert (found["sums"], found["sums (expert 3)"]) == (sums, other)
