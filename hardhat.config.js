import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.dirname(fileURLToPath(import.meta.url));

// The compiler comes from npm (wasm), so nothing is downloaded at compile time.
// The path must be absolute (HHE908).
const soljson = path.join(root, "node_modules", "solc", "soljson.js");

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
      optimizer: { enabled: true, runs: 10_000 },
    },
  },
  test: {
    solidity: {
      // A loop without an end is a failure within a minute, not a hang.
      gasLimit: 5_000_000_000n,
      fsPermissions: {
        readFile: ["./tests/vectors/protocol.json"],
        readWriteFile: ["./contracts/snapshots/gas.json"],
      },
      fuzz: { runs: 256 },
      invariant: { runs: 32, depth: 64, failOnRevert: true },
    },
  },
};
