// The project's build, but whole and in a place of its own: incremental builds leave stale build-info behind, and
// Slither would read all of it.
import project from "../../hardhat.config.js";

export default {
  ...project,
  paths: { ...project.paths, artifacts: "./build/slither/artifacts", cache: "./build/slither/cache" },
};
