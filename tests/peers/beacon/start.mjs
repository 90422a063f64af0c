// Starts a real beacon node (Lodestar, minimal preset, Capella from genesis, its own interop validators) over an
// execution engine that takes everything, prints one JSON line when the first block exists, and ends with its standard
// input: when the test that started it dies, so does all of this.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { randomBytes } from 'node:crypto';
import { startEngine } from './engine-stub.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const [restPort, enginePort, p2pPort] = process.argv.slice(2).map(Number);
const validators = 16;
const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'postern-beacon-'));
const jwt = path.join(folder, 'jwt.hex');
fs.writeFileSync(jwt, '0x' + randomBytes(32).toString('hex'));
const genesisHash = '0x' + '0b'.repeat(32);
await startEngine(enginePort, genesisHash);

const rest = `http://127.0.0.1:${restPort}`;
const parameters = {
  SECONDS_PER_SLOT: 2, ALTAIR_FORK_EPOCH: 0, BELLATRIX_FORK_EPOCH: 0, CAPELLA_FORK_EPOCH: 0,
  SHARD_COMMITTEE_PERIOD: 0, TERMINAL_TOTAL_DIFFICULTY: 0,
};
const log = fs.openSync(path.join(folder, 'beacon.log'), 'w');
const node = spawn(process.execPath, [
  '-r', path.join(here, 'node20-compat.cjs'),
  path.join(here, 'node_modules', '@chainsafe', 'lodestar', 'lib', 'index.js'), 'dev',
  '--genesisValidators', String(validators), '--startValidators', `0..${validators - 1}`,
  '--genesisTime', String(Math.floor(Date.now() / 1000) + 7), '--reset', '--dataDir', path.join(folder, 'data'),
  '--rest', '--rest.namespace', '*', '--rest.port', String(restPort), '--beaconNodes', rest,
  '--listenAddress', '127.0.0.1', '--port', String(p2pPort), '--discv5', 'false', '--targetPeers', '0',
  '--eth1', 'false', '--execution.urls', `http://127.0.0.1:${enginePort}`, '--jwt-secret', jwt,
  '--genesisEth1Hash', genesisHash,
  ...Object.entries(parameters).flatMap(([name, value]) => [`--params.${name}`, String(value)]),
], { stdio: ['ignore', log, log], env: { ...process.env, LODESTAR_PRESET: 'minimal', NODE_BACKEND: 'js' } });

// The node is slow to leave when asked.
const stop = (code) => { node.kill('SIGKILL'); fs.rmSync(folder, { recursive: true, force: true }); process.exit(code); };
node.on('exit', (code) => { console.error(fs.readFileSync(path.join(folder, 'beacon.log'), 'utf8').slice(-4000)); console.error(`the beacon node ended (${code})`); stop(1); });
process.stdin.on('end', () => stop(0)).resume();

const get = async (query) => (await (await fetch(rest + query)).json()).data;
const deadline = Date.now() + 120_000;
for (;;) {
  try {
    if (Number((await get('/eth/v1/beacon/headers/head')).header.message.slot) >= 1) break;
  } catch { /* not up yet */ }
  if (Date.now() > deadline) { console.error('no block within two minutes'); stop(1); }
  await new Promise((ready) => setTimeout(ready, 200));
}
console.log(JSON.stringify({ url: rest, genesis: await get('/eth/v1/beacon/genesis') }));
