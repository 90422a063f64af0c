// `node start.mjs DIRECTORY`: a real beacon node (Lodestar, minimal preset, Capella from genesis, sixteen interop
// validators of its own) over an execution engine that takes everything. Prints one line of JSON when the first block
// exists and runs until it is killed. Everything it writes is in DIRECTORY.
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { startEngine } from './engine-stub.mjs';

const VALIDATORS = 16;
const PATIENCE_MS = 150_000;
const GENESIS_HASH = `0x${'0b'.repeat(32)}`;
const PARAMETERS = {
  SECONDS_PER_SLOT: 2,
  ALTAIR_FORK_EPOCH: 0,
  BELLATRIX_FORK_EPOCH: 0,
  CAPELLA_FORK_EPOCH: 0,
  TERMINAL_TOTAL_DIFFICULTY: 0,
  // A validator may leave as soon as it is active.
  SHARD_COMMITTEE_PERIOD: 0,
};

const here = dirname(fileURLToPath(import.meta.url));
const directory = process.argv[2];
if (!directory) throw new Error('usage: node start.mjs DIRECTORY');

async function freePort() {
  const server = createServer();
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const { port } = server.address();
  await new Promise((closed) => server.close(closed));
  return String(port);
}

const secret = join(directory, 'jwt.hex');
writeFileSync(secret, `0x${randomBytes(32).toString('hex')}`);
const engine = await startEngine(GENESIS_HASH);
const restPort = await freePort();
const url = `http://127.0.0.1:${restPort}`;

const logFile = join(directory, 'beacon.log');
const log = openSync(logFile, 'w');
const started = Date.now();
const node = spawn(
  process.execPath,
  [
    '--require', join(here, 'node20-compat.cjs'),
    join(here, 'node_modules/@chainsafe/lodestar/lib/index.js'), 'dev',
    '--genesisValidators', String(VALIDATORS), '--startValidators', `0..${VALIDATORS - 1}`,
    // Later than the node needs to get ready on a busy machine: one that misses an epoch of blocks never recovers.
    '--genesisTime', String(Math.floor(started / 1000) + 24), '--genesisEth1Hash', GENESIS_HASH,
    '--reset', '--dataDir', join(directory, 'data'),
    '--rest', '--rest.namespace', '*', '--rest.port', restPort, '--beaconNodes', url,
    '--listenAddress', '127.0.0.1', '--port', await freePort(), '--discv5', 'false', '--targetPeers', '0',
    '--eth1', 'false', '--execution.urls', engine, '--jwt-secret', secret,
    ...Object.entries(PARAMETERS).flatMap(([name, value]) => [`--params.${name}`, String(value)]),
  ],
  {
    // It leaves files where it stands.
    cwd: directory,
    stdio: ['ignore', log, log],
    // Without the second it wants a compiler.
    env: { ...process.env, LODESTAR_PRESET: 'minimal', NODE_BACKEND: 'js' },
  },
);
closeSync(log);

function fail(reason) {
  console.error(readFileSync(logFile, 'utf8').slice(-4000));
  console.error(reason);
  node.kill('SIGKILL');
  process.exit(1);
}
node.on('exit', (code, signal) => fail(`the beacon node ended (${code ?? signal})`));

async function headSlot() {
  try {
    const answer = await fetch(`${url}/eth/v1/beacon/headers/head`);
    return Number((await answer.json()).data.header.message.slot);
  } catch {
    return 0; // not up yet
  }
}
while ((await headSlot()) < 1) {
  if (Date.now() > started + PATIENCE_MS) fail(`no block within ${PATIENCE_MS / 1000} s`);
  await sleep(200);
}
console.log(JSON.stringify({ url, ready_ms: Date.now() - started }));
