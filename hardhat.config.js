import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(fileURLToPath(import.meta.url));

// The compiler comes from npm (wasm), so nothing is downloaded at compile time.
// The path must be absolute (HHE908).
const soljson = path.join(root, "node_modules", "solc", "soljson.js");

// `make test-deep` names a number of long runs; otherwise there are a few short ones.
const deepRuns = Number(process.env.TRACEMARKET_DEEP_RUNS ?? 0);
if (!Number.isSafeInteger(deepRuns) || deepRuns < 0) {
  throw new Error(`TRACEMARKET_DEEP_RUNS must be a whole number, not ${process.env.TRACEMARKET_DEEP_RUNS}`);
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
    version: "0.8.37",
    path: soljson,
    preferWasm: true,
    settings: {
      evmVersion: "cancun",
      optimizer: { enabled: true, runs: 1_000 },
    },
  },
  test: {
    solidity: {
      // A loop without an end is a failure within a minute, not a hang.
      gasLimit: 5_000_000_000n,
      fsPermissions: {
        readFile: ["./tests/vectors/protocol.json", "./tests/vectors/drand_evmnet.json"],
        writeFile: ["./build/deep/actions.txt"],
        readWriteFile: ["./contracts/snapshots/gas.json"],
      },
      fuzz: { runs: 256 },
      invariant: { runs: deepRuns || 32, depth: deepRuns ? 256 : 64, failOnRevert: true },
    },
  },
};
