#!/bin/sh
# Makes the simulation's root (ARK) and intermediate (ASK) certificates. SIMULATION, NO SECURITY: the private keys beside
# this script are public on purpose. Keys that exist are kept; delete them to have new ones made.
# Valid from 2020 to 2049, so that a simulated clock may stand anywhere.
set -eu
cd "$(dirname "$0")"
keys=$(pwd)
names='/OU=SIMULATION/C=XX/L=Nowhere/ST=XX/O=POSTERN SIMULATION NO SECURITY'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

cat >ca.cnf <<'CONF'
[ca]
default_ca = simulation
[simulation]
database = index.txt
new_certs_dir = .
serial = serial
policy = any
default_md = sha384
unique_subject = no
[any]
organizationalUnitName = optional
countryName = optional
localityName = optional
stateOrProvinceName = optional
organizationName = optional
commonName = supplied
[ark]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[ask]
basicConstraints = critical,CA:TRUE,pathlen:0
keyUsage = critical,keyCertSign
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
CONF
: >index.txt
echo 53494D00 >serial

for name in ark ask; do
  key="$keys/simulation-$name-no-security.pkcs8.der"
  [ -f "$key" ] || openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:4096 |
    openssl pkcs8 -topk8 -nocrypt -outform DER -out "$key"
  openssl pkey -inform DER -in "$key" -out "$name.pem"
done

issue() { # name, CN, further options
  name=$1 cn=$2
  shift 2
  openssl req -new -key "$name.pem" -subj "$names/CN=$cn" -out "$name.csr"
  openssl ca -batch -notext -config ca.cnf -preserveDN -keyfile ark.pem -in "$name.csr" -out "$name.crt" \
    -extensions "$name" -startdate 20200101000000Z -enddate 20491231235959Z \
    -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:48 -sigopt rsa_mgf1_md:sha384 "$@"
  openssl x509 -in "$name.crt" -outform DER -out "$keys/simulation-$name-no-security.crt.der"
}
issue ark ARK-SIMULATION-NO-SECURITY -selfsign
issue ask SEV-SIMULATION-NO-SECURITY -cert ark.crt
