"""Verifies what `postern demo --json` prints, with an implementation that shares nothing with Postern.

SSZ roots are computed here with hashlib from the text of consensus-specs; signatures are checked by py_ecc.
Usage: verify_signatures.py FILE (or - for standard input). Exits 1 and says what failed.
"""

import hashlib
import json
import sys

from py_ecc.bls import G2ProofOfPossession as bls

DOMAIN_DEPOSIT = bytes([3, 0, 0, 0])
DOMAIN_VOLUNTARY_EXIT = bytes([4, 0, 0, 0])


def sha256(data):
    return hashlib.sha256(data).digest()


def merkleize(chunks):
    while len(chunks) & (len(chunks) - 1):
        chunks.append(bytes(32))
    while len(chunks) > 1:
        chunks = [sha256(chunks[i] + chunks[i + 1]) for i in range(0, len(chunks), 2)]
    return chunks[0]


def byte_vector_root(data):
    return merkleize([data[i : i + 32].ljust(32, b"\0") for i in range(0, len(data), 32)])


def uint64_root(number):
    return number.to_bytes(8, "little").ljust(32, b"\0")


def signing_root(object_root, domain_type, fork_version, genesis_validators_root):
    fork_data_root = merkleize([fork_version.ljust(32, b"\0"), genesis_validators_root])
    return merkleize([object_root, domain_type + fork_data_root[:28]])


def unhex(text, size):
    data = bytes.fromhex(text.removeprefix("0x"))
    if len(data) != size:
        raise ValueError(f"{size} bytes wanted, {len(data)} found")
    return data


def check_pool(pool, network):
    """Yields the name and the outcome of every check."""
    genesis_version = unhex(network["genesis_fork_version"], 4)
    capella_version = unhex(network["capella_fork_version"], 4)
    validators_root = unhex(network["genesis_validators_root"], 32)
    pubkey = unhex(pool["pubkey"], 48)
    credentials = unhex(pool["withdrawal_credentials"], 32)
    amount = int(pool["amount_gwei"])
    deposit_signature = unhex(pool["deposit_signature"], 96)

    fields = [byte_vector_root(pubkey), credentials, uint64_root(amount)]
    deposit_root = signing_root(merkleize(list(fields)), DOMAIN_DEPOSIT, genesis_version, bytes(32))
    yield "deposit signature", bls.Verify(pubkey, deposit_root, deposit_signature)
    data_root = merkleize([*fields, byte_vector_root(deposit_signature)])
    yield "deposit data root", data_root == unhex(pool["deposit_data_root"], 32)

    message = pool["exit"]["message"]
    exit_object = merkleize([uint64_root(int(message["epoch"])), uint64_root(int(message["validator_index"]))])
    # EIP-7044: the Capella fork version, for ever.
    exit_root = signing_root(exit_object, DOMAIN_VOLUNTARY_EXIT, capella_version, validators_root)
    yield "exit signature", bls.Verify(pubkey, exit_root, unhex(pool["exit"]["signature"], 96))
    yield "exit is for the pool's validator", message["validator_index"] == pool["validator_index"]


def main():
    with sys.stdin if sys.argv[1] == "-" else open(sys.argv[1], encoding="utf-8") as file:
        report = json.load(file)
    if not report["pools"]:
        sys.exit("no pools: nothing to verify")
    failed = 0
    for pool in report["pools"]:
        for name, holds in check_pool(pool, report["network"]):
            print(f"{pool['pool_id']}: {name}: {'valid' if holds else 'INVALID'}")
            failed += not holds
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
