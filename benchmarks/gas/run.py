"""Measure what a batch costs, beside others, in one run on one Anvil: `make bench-gas`.

Writes results.json, results.md and results.png into this folder.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any, Final

import disputes
import market
import peers
import report
from web3 import Web3

from marketplace.chain.anvil import AnvilNode, find_anvil
from marketplace.chain.artifacts import artifact

SIZES: Final = (1, 16, 256, 1024, 4096, 65536)
SENT_UP_TO: Final = 4096
TREES: Final = (1024, 65536)
REPEATS: Final = 5
TRACES_PER_WITHDRAWAL: Final = 100
WITHDRAWAL: Final = "all, to a holder"
AIM_SIZE: Final = 1024
EAS_AIM: Final = 300
SLOT_AIM: Final = 60
FOLDER: Final = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder for the results")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with AnvilNode(accounts=market.ROLES + market.VERIFIERS) as anvil:
        results = measure(anvil)
    results["seconds"] = round(time.monotonic() - begun)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    (out / "results.md").write_text(report.markdown(results), "utf-8")
    (out / "results.png").write_bytes(report.plot(results))
    print(report.markdown(results))


def measure(anvil: AnvilNode) -> dict[str, Any]:
    w3 = Web3(Web3.HTTPProvider(anvil.url))
    kit = market.open_market(anvil)
    say("first batch ever")
    entering = market.steps(kit.gas)
    first = market.sample([kit.life(AIM_SIZE)])
    say("warming up")
    warm = market.warm_up(kit)
    alone = {}
    for size in SIZES:
        say(f"batches of {size:,}")
        alone[str(size)] = market.sample([kit.life(size) for _ in range(REPEATS)])
    alone_carried = {}
    for size in SIZES:
        say(f"batches of {size:,}, votes carried")
        lives = [kit.life(size, carried=True) for _ in range(REPEATS)]
        alone_carried[str(size)] = market.sample(lives)
    together = together_carried = None
    if kit.bundles:
        together = {}
        for size in SIZES:
            say(f"{market.TOGETHER} batches of {size:,} at once")
            together[str(size)] = market.sample([kit.lives_together(size)], market.TOGETHER)
        together_carried = {}
        for size in SIZES:
            say(f"{market.TOGETHER} batches of {size:,} at once, votes carried")
            lives = [kit.lives_together(size, carried=True) for _ in range(2)]
            together_carried[str(size)] = market.sample(lives, market.TOGETHER)
    say("withdrawals")
    fresh = [Web3.to_checksum_address(os.urandom(20)) for _ in range(2)]
    withdrawals = market.withdrawals(kit, fresh)
    say("disputes")
    dispute = disputes.measure(kit)

    roles = kit.accounts
    for address in (roles.stranger.address, roles.trainer.address):
        anvil.set_balance(address, 10**24)
    sender = peers.Sender(w3, roles.stranger.address)
    holder = peers.Sender(w3, roles.miner.address)
    say("EAS")
    eas = peers.eas(sender, SIZES, SENT_UP_TO)
    say("a slot for each trace")
    slots = peers.slots(sender, SIZES, SENT_UP_TO)
    say("Merkle claims")
    claims = peers.claims(sender, kit.deployment.token.address, holder, TREES)
    return {
        "machine": machine(anvil),
        "settings": {
            "committee": market.COMMITTEE,
            "verifiers": market.VERIFIERS,
            "warm_up_batches": warm,
            "lives_per_size": REPEATS,
            "batches_together": market.TOGETHER,
            "traces_per_withdrawal": TRACES_PER_WITHDRAWAL,
            "withdrawal": WITHDRAWAL,
            "block_gas": peers.BLOCK_GAS,
            "aim_size": AIM_SIZE,
            "eas_aim": EAS_AIM,
            "slot_aim": SLOT_AIM,
        },
        "entering": entering,
        "first": first,
        "alone": alone,
        "alone_carried": alone_carried,
        "together": together,
        "together_carried": together_carried,
        "withdrawals": withdrawals,
        "dispute": dispute,
        "eas": eas,
        "slots": slots,
        "claims": claims,
    }


def machine(anvil: AnvilNode) -> dict[str, Any]:
    said = subprocess.run([find_anvil(), "--version"], capture_output=True, text=True, check=True)
    info = anvil.rpc("anvil_nodeInfo")
    versions = {}
    for folder, names in (
        (peers.ROOT, ("solc", "@openzeppelin/contracts")),
        (
            peers.HERE,
            ("@ethereum-attestation-service/eas-contracts", "@uniswap/merkle-distributor"),
        ),
    ):
        for name in names:
            package = folder / "node_modules" / name / "package.json"
            versions[name] = json.loads(package.read_text("utf-8"))["version"]
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "web3": importlib.metadata.version("web3"),
        "anvil": said.stdout.split("\n")[0].removeprefix("anvil Version: "),
        "hardfork": info["hardFork"],
        "compiler": artifact("BatchMarket").solc,
        "packages": versions,
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def say(what: str) -> None:
    print(f"== {what}", flush=True)


if __name__ == "__main__":
    main()
