// SPDX-License-Identifier: Apache-2.0
//
// Compiles `src/*.sol` to `artifacts/<Name>.json`, reproducibly: the compiler is pinned in package-lock.json, and no
// metadata hash is appended to the code.
//
//   node build.mjs           writes the artifacts
//   node build.mjs --check   compares them with what the sources give; exits 1 on a difference

import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const sourceDir = join(here, "src");
const artifactDir = join(here, "artifacts");
const check = process.argv.includes("--check");

const settings = {
  evmVersion: "cancun",
  optimizer: { enabled: true, runs: 200 },
  viaIR: true,
  metadata: { bytecodeHash: "none", appendCBOR: false },
  outputSelection: { "*": { "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"] } },
};

const sources = Object.fromEntries(
  readdirSync(sourceDir)
    .filter((name) => name.endsWith(".sol"))
    .sort()
    .map((name) => [name, { content: readFileSync(join(sourceDir, name), "utf8") }]),
);

const output = JSON.parse(solc.compile(JSON.stringify({ language: "Solidity", sources, settings })));
const diagnostics = output.errors ?? [];
for (const diagnostic of diagnostics) console.error(diagnostic.formattedMessage.trimEnd());
// A warning is a failure too: the sources are small enough to have none.
if (diagnostics.some(({ severity }) => severity !== "info")) process.exit(1);

const { outputSelection: _, ...reportedSettings } = settings;
const artifacts = new Map();
for (const file of Object.keys(sources)) {
  for (const [contractName, contract] of Object.entries(output.contracts[file] ?? {})) {
    if (contract.evm.bytecode.object === "") continue; // An interface has no code.
    const artifact = {
      contractName,
      abi: contract.abi,
      bytecode: `0x${contract.evm.bytecode.object}`,
      deployedBytecode: `0x${contract.evm.deployedBytecode.object}`,
      compiler: { version: solc.version(), settings: reportedSettings },
    };
    artifacts.set(`${contractName}.json`, `${JSON.stringify(artifact, null, 2)}\n`);
  }
}

mkdirSync(artifactDir, { recursive: true });
const stale = readdirSync(artifactDir).filter((name) => name.endsWith(".json") && !artifacts.has(name));
const differing = [...artifacts].filter(([name, text]) => {
  const path = join(artifactDir, name);
  return !existsSync(path) || readFileSync(path, "utf8") !== text;
});

if (check) {
  for (const name of stale) console.error(`artifacts/${name} has no source any more`);
  for (const [name] of differing) console.error(`artifacts/${name} differs from what the sources give`);
  process.exit(stale.length + differing.length === 0 ? 0 : 1);
}
for (const name of stale) rmSync(join(artifactDir, name));
for (const [name, text] of differing) writeFileSync(join(artifactDir, name), text);
console.log(`${artifacts.size} artifacts, ${differing.length} written`);
