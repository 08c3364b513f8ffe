import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(fileURLToPath(import.meta.url));

// The compiler comes from npm (wasm), so nothing is downloaded at compile time.
// The path must be absolute (HHE908).
const soljson = path.join(root, "node_modules", "solc", "soljson.js");

function wholeNumber(name, otherwise) {
  const number = Number(process.env[name] ?? otherwise);
  if (!Number.isSafeInteger(number) || number < 0) {
    throw new Error(`${name} must be a whole number, not ${process.env[name]}`);
  }
  return number;
}

// tests/solidity/deep.py (`make test-deep`) asks for a number of long runs from its own seed; otherwise there are a few
// short ones. Values from storage and code are no likelier seeds of actions than others, and cost a quarter of the time.
// Shrinking a long run to the end would take an hour.
const deepRuns = wholeNumber("TRACEMARKET_DEEP_RUNS", 0);
const deepSeed = wholeNumber("TRACEMARKET_DEEP_SEED", 0);
const deep = {
  runs: deepRuns,
  depth: wholeNumber("TRACEMARKET_DEEP_DEPTH", 256),
  includeStorage: false,
  includePushBytes: false,
  dictionaryWeight: 0,
  shrinkRunLimit: 100,
};

function compiler(optimizer) {
  return { version: "0.8.37", path: soljson, preferWasm: true, settings: { evmVersion: "cancun", optimizer } };
}

/** @type {import("hardhat/config").HardhatUserConfig} */
export default {
  paths: {
    sources: "./contracts/src",
    tests: { solidity: "./tests/solidity" },
    artifacts: "./contracts/artifacts",
    cache: "./contracts/cache",
  },
  solidity: {
    profiles: {
      default: compiler({ enabled: true, runs: 1_000 }),
      // For the Solidity tests' own code, compiled in a third of the time: what the optimizer spends most on is left
      // out. They take the contracts as built, so always with --no-compile (`make test-solidity`).
      tests: compiler({ enabled: false, details: { peephole: true, inliner: true, jumpdestRemover: true } }),
    },
    // Deep runs share one build; tests that are split off would be built anew by each process.
    splitTestsCompilation: deepRuns === 0,
  },
  test: {
    solidity: {
      // A loop without an end is a failure within a minute, not a hang.
      gasLimit: 5_000_000_000n,
      fsPermissions: {
        readFile: [
          "./tests/vectors/protocol.json",
          "./tests/vectors/drand_evmnet.json",
          "./tests/vectors/sheets.json",
        ],
        writeFile: [`./build/deep/${deepSeed}.txt`],
        readWriteFile: ["./contracts/snapshots/gas.json"],
      },
      fuzz: { runs: 256, ...(deepRuns && { seed: `0x${deepSeed.toString(16).padStart(64, "0")}` }) },
      invariant: { ...(deepRuns ? deep : { runs: 32, depth: 64 }), failOnRevert: true },
    },
  },
};
