#!/usr/bin/env bash
# Makes the first corpus from the real vectors.
set -euo pipefail
cd "$(dirname "$0")"
vectors=../../tests/vectors/snp
mkdir -p corpus/{parse_report,appraise,decode}
cp "$vectors"/*report*.bin "$vectors"/gosev-attestation.bin corpus/parse_report/
python3 - "$vectors" <<'PYTHON'
import pathlib, struct, sys

vectors = pathlib.Path(sys.argv[1])
out = pathlib.Path("corpus/appraise")
part = lambda data: struct.pack("<H", len(data)) + data
read = lambda name: (vectors / name).read_bytes()
parts = {
    "real": [b"", b"", b"", b"", b""],
    "turin": [read("msft-tav-turin-report.bin"), pathlib.Path("../roots/ark-turin.der").read_bytes(), read("amd-turin-ask.der"), read("msft-tav-turin-vcek.der"), b""],
    "report": [read("confai-siena-report.bin"), b"", b"", b"", b""],
    "ask": [b"", b"", read("amd-genoa-ask.der"), b"", b""],
    "asvk": [b"", b"", read("amd-genoa-asvk.der"), b"", b""],
    "leaf": [b"", b"", b"", read("confai-siena-vcek.der"), b""],
    "crl": [b"", b"", b"", b"", read("amd-genoa-crl-2022.der")],
}
for name, these in parts.items():
    for choice in (0x00, 0x12, 0x73):
        (out / f"{name}-{choice:02x}").write_bytes(bytes([choice]) + b"".join(map(part, these)))
PYTHON
