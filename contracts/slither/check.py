"""Run Slither over contracts/src; exit code 1 for anything that exclusions.toml has no reason for.

    python contracts/slither/check.py <slither>     needs build/slither/artifacts (`make slither`)

An exclusion that matches nothing is an error too, and so is a `slither-disable` comment: reasons
live in one file.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).resolve().parent
PROJECT: Final = HERE.parents[1]
SOURCES: Final = PROJECT / "contracts" / "src"


@dataclass(frozen=True, slots=True)
class Finding:
    detector: str
    impact: str
    where: str
    """Contract.function, Contract, or what else was found"""
    lines: tuple[str, ...]
    """the statements it rests on, as Slither prints them; for a reentrancy the calls"""
    text: str


@dataclass(frozen=True, slots=True)
class Exclusion:
    detectors: tuple[str, ...]
    where: tuple[str, ...]
    """places, or "*" for everywhere"""
    lines: tuple[str, ...]
    """where given, each line of the finding must contain one of these"""
    reason: str

    def matches(self, finding: Finding) -> bool:
        return (
            finding.detector in self.detectors
            and ("*" in self.where or finding.where in self.where)
            and (not self.lines or all(self.part_of(line) for line in finding.lines))
        )

    def part_of(self, line: str) -> str | None:
        return next((part for part in self.lines if part in line), None)


class CheckError(Exception):
    """Slither did not run, or exclusions.toml is not what it should be."""


def finding_of(raw: dict[str, Any]) -> Finding:
    elements = raw["elements"]
    lines = []
    for element in elements[1:]:
        role = element.get("additional_fields", {}).get("underlying_type", "external_calls")
        if element["type"] == "node" and role.startswith("external_calls"):
            lines.append(element["name"])
    return Finding(
        raw["check"], raw["impact"], place_of(elements[0]), tuple(lines), raw["description"]
    )


def place_of(element: dict[str, Any]) -> str:
    """Contract.function of an element in a function; Contract.name or the name of any other."""
    name = element["name"]
    parent = element.get("type_specific_fields", {}).get("parent")
    if parent is None or parent["type"] not in ("function", "contract"):
        return name
    return place_of(parent) if parent["type"] == "function" else f"{parent['name']}.{name}"


def read_exclusions(text: str) -> list[Exclusion]:
    found = []
    for entry in tomllib.loads(text).get("exclude", []):
        if unknown := entry.keys() - {"detectors", "where", "lines", "reason"}:
            raise CheckError(f"exclusions.toml: unknown keys {sorted(unknown)}")
        exclusion = Exclusion(
            tuple(entry.get("detectors", ())),
            tuple(entry.get("where", ())),
            tuple(entry.get("lines", ())),
            entry.get("reason", "").strip(),
        )
        if not (exclusion.detectors and exclusion.where and exclusion.reason):
            raise CheckError(f"exclusions.toml: {entry} lacks detectors, where or reason")
        found.append(exclusion)
    return found


def unexcluded(findings: Sequence[Finding], exclusions: Sequence[Exclusion]) -> list[Finding]:
    return [f for f in findings if not any(e.matches(f) for e in exclusions)]


def unused(findings: Sequence[Finding], exclusions: Sequence[Exclusion]) -> list[str]:
    """Detectors, places and lines that no finding needs: they would hide the next one."""
    stale = []
    for exclusion in exclusions:
        matched = [f for f in findings if exclusion.matches(f)]
        used = {f.detector for f in matched} | {f.where for f in matched} | {"*"}
        used |= {part for f in matched for line in f.lines if (part := exclusion.part_of(line))}
        stale += [
            f"{', '.join(exclusion.detectors)}: {value}"
            for value in (*exclusion.detectors, *exclusion.where, *exclusion.lines)
            if value not in used or not matched
        ]
    return stale


def run_slither(slither: str) -> list[Finding]:
    config = HERE / "slither.config.json"
    command = [slither, ".", "--config-file", str(config), "--json", "-"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        answer = {"success": False, "error": f"exit code {done.returncode}\n{done.stderr}"}
    if not answer["success"]:
        raise CheckError(f"slither failed: {answer['error']}")
    return [finding_of(raw) for raw in answer["results"].get("detectors", [])]


def check(slither: str) -> int:
    inline = [p for p in sorted(SOURCES.rglob("*.sol")) if "slither-disable" in p.read_text()]
    if inline:
        raise CheckError(f"write exclusions in {HERE.name}/exclusions.toml, not in {inline[0]}")
    exclusions = read_exclusions((HERE / "exclusions.toml").read_text())
    findings = run_slither(slither)
    if not findings and exclusions:
        raise CheckError("slither found nothing at all: is build/slither/artifacts empty?")
    open_ = unexcluded(findings, exclusions)
    for finding in open_:
        print(f"{finding.impact} {finding.detector} in {finding.where}\n{finding.text}")
    stale = unused(findings, exclusions)
    for entry in stale:
        print(f"exclusion that matches nothing: {entry}")
    print(f"slither: {len(findings) - len(open_)} findings with a reason, {len(open_)} without")
    return 1 if open_ or stale else 0


if __name__ == "__main__":
    try:
        sys.exit(check(sys.argv[1]))
    except CheckError as error:
        sys.exit(f"error: {error}")
