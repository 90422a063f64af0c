//! Nothing that a host ever sees holds a secret, in any encoding (invariant I1).
//!
//! Two pools go through their whole life while every byte that crosses the line between an enclave and its host is
//! recorded. The test knows the enclaves' coins, computes every secret that ever existed, and looks for each in raw bytes,
//! reversed, in hexadecimal, and in base64 at each of its three alignments.

use aho_corasick::AhoCorasick;
use postern_enclave::coins::Coins;
use postern_enclave::keys::IdentityKeys;
use postern_enclave::sharing::Polynomial;
use postern_shared::bls::{G1, G2, Scalar};
use postern_shared::codec;
use postern_shared::dealing::Deal;
use postern_shared::events::ChainEvent;
use postern_shared::ids::{CeremonyId, MemberId, PoolId};
use postern_shared::lagrange;
use postern_shared::message::{Slot, Step};
use postern_shared::presign::{PresignTerms, Split};
use postern_shared::transcript::Proceedings;
use postern_tests::cluster::{Cluster, deposit_requested, exit_requested, manifest, pool};
use std::collections::BTreeSet;

/// A secret with its name.
type Named = (String, Vec<u8>);

/// Every way in which these bytes could be written.
fn encodings(secret: &[u8]) -> Vec<Vec<u8>> {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
    let reversed: Vec<u8> = secret.iter().rev().copied().collect();
    let mut all = Vec::new();
    for bytes in [secret, &reversed] {
        all.push(bytes.to_vec());
        all.push(hex::encode(bytes).into_bytes());
        all.push(hex::encode_upper(bytes).into_bytes());
        for skip in 0..3 {
            // What surrounds the secret decides on its first and last characters: leave them out.
            let whole = &bytes[skip..skip + (bytes.len() - skip) / 3 * 3];
            all.push(STANDARD_NO_PAD.encode(whole).into_bytes());
            all.push(URL_SAFE_NO_PAD.encode(whole).into_bytes());
        }
    }
    all
}

/// Names of the secrets of which some encoding was seen.
fn found<'a>(seen: &[Vec<u8>], secrets: &'a [Named]) -> BTreeSet<&'a str> {
    let (mut names, mut patterns) = (Vec::new(), Vec::new());
    for (name, secret) in secrets {
        for encoding in encodings(secret) {
            names.push(name.as_str());
            patterns.push(encoding);
        }
    }
    let search = AhoCorasick::new(&patterns).expect("the patterns fit an automaton");
    let hits = seen.iter().flat_map(|message| search.find_overlapping_iter(message));
    hits.filter_map(|hit| names.get(hit.pattern().as_usize()).copied()).collect()
}

fn scalar(name: impl Into<String>, scalar: &Scalar) -> Named {
    (name.into(), scalar.to_bytes().to_vec())
}

fn identity_secrets(id: MemberId, coins: &Coins) -> Vec<Named> {
    let key = |label| coins.bytes(label, b"").to_vec();
    let dealing = coins.scalar("postern-key-dealing-v2", b"");
    // Otherwise this test would look for the wrong thing.
    assert_eq!((G1::generator() * &dealing).encode(), IdentityKeys::derive(coins, id, 0).identity().dealing);
    vec![
        (format!("{id}: signing key"), key("postern-key-signing-v1")),
        (format!("{id}: agreement key"), key("postern-key-agreement-v1")),
        scalar(format!("{id}: dealing key"), &dealing),
    ]
}

/// The polynomial that a member deals in a keygen, as its enclave computes it.
fn dealt(coins: &Coins, ceremony: &[u8; 32], threshold: usize) -> Polynomial {
    let secret = coins.scalar("postern-keygen-secret-v1", ceremony);
    Polynomial::sample(secret, threshold, coins.stream("postern-keygen-polynomial-v1", ceremony)).unwrap()
}

struct PoolSecrets {
    named: Vec<Named>,
    /// The whole exit signature: public only once it is released.
    exit: G2,
}

fn pool_secrets(cluster: &Cluster, pool: PoolId, terms: &PresignTerms) -> PoolSecrets {
    let mut named = Vec::new();
    let keygen = terms.certificate.ceremony.0;
    let threshold = terms.operator_threshold();
    let (message, presign) = (terms.exit_message(), terms.ceremony().0);
    let polynomials: Vec<Polynomial> =
        cluster.nodes.iter().map(|node| dealt(&node.coins(), &keygen, threshold)).collect();
    let share = |member: MemberId| {
        polynomials.iter().fold(Scalar::zero(), |sum, dealt| sum + dealt.evaluate(member).unwrap())
    };
    let group = polynomials.iter().fold(Scalar::zero(), |sum, dealt| sum + dealt.constant());
    // Otherwise this test would look for the wrong things.
    assert_eq!((G1::generator() * &group).encode(), terms.certificate.pubkey());
    named.push(scalar(format!("{pool}: the validator's key"), &group));

    let splits: Vec<Polynomial> = cluster
        .nodes
        .iter()
        .map(|node| {
            let coins = node.coins().stream("postern-presign-polynomial-v1", &presign);
            Polynomial::sample(Scalar::zero(), terms.guardian_threshold.into(), coins).unwrap()
        })
        .collect();
    let weights = lagrange::at_zero(&terms.operators[..threshold]).unwrap();
    for (node, dealt) in cluster.nodes.iter().zip(&polynomials) {
        let (id, coins) = (node.id, node.coins());
        named.push(scalar(format!("{pool}, {id}: dealt secret"), &dealt.constant()));
        named.push(scalar(format!("{pool}, {id}: key share"), &share(id)));
        for (ceremony, step) in [(keygen, Step::Deal), (presign, Step::Split)] {
            let slot = Slot::of(CeremonyId(ceremony), id, step);
            let ephemeral = coins.scalar("postern-ephemeral-v1", &codec::encode(&slot));
            let said = cluster.said.iter().find(|said| said.slot == slot).expect("it has dealt");
            let published = match step {
                Step::Deal => codec::decode::<Deal>(&said.body).unwrap().sealed.ephemeral,
                _ => codec::decode::<Split>(&said.body).unwrap().sealed.ephemeral,
            };
            assert_eq!((G1::generator() * &ephemeral).encode(), published, "nor for this");
            for other in &cluster.nodes {
                let shared = other.keys().identity().dealing.decode().unwrap() * &ephemeral;
                named.push((
                    format!("{pool}: {id} and {}'s shared point", other.id),
                    shared.encode().0.to_vec(),
                ));
                let dealt = dealt.evaluate(other.id).unwrap();
                named.push(scalar(format!("{pool}: {id}'s share for {}", other.id), &dealt));
            }
            named.push(scalar(format!("{pool}, {id}: ephemeral key"), &ephemeral));
        }
        let partial = &message * &share(id);
        named.push((format!("{pool}, {id}: partial exit signature"), partial.encode().0.to_vec()));
        let mut combined = G2::identity();
        for ((operator, split), position) in cluster.nodes.iter().zip(&splits).zip(0..) {
            let exit_share = &message * &(share(operator.id) + split.evaluate(id).unwrap());
            let name = format!("{pool}, {id}: share of {}'s partial exit", operator.id);
            named.push((name, exit_share.encode().0.to_vec()));
            if let Some(weight) = weights.get(position) {
                combined += exit_share * weight;
            }
        }
        named.push((format!("{pool}, {id}: share of the whole exit"), combined.encode().0.to_vec()));
    }
    PoolSecrets { named, exit: &message * &group }
}

#[test]
fn no_host_ever_sees_a_secret() {
    let pools = [pool(1), pool(2)];
    let mut cluster = Cluster::launch(manifest(5, 3, 3), 11);
    cluster.seen = Some(Vec::new());
    cluster.run(1);
    for pool in pools {
        cluster.observe(deposit_requested(pool.number));
    }
    cluster.run(1);
    for pool in pools {
        let pubkey = cluster.pubkey(pool).expect("a key is made");
        cluster.observe(ChainEvent::ValidatorIndexed {
            pool,
            pubkey,
            validator_index: 40 + u64::from(pool.number),
        });
    }
    cluster.run(1);
    let before_release = cluster.seen.clone().unwrap_or_default();
    cluster.observe(exit_requested(1));
    cluster.run(1);
    let seen = cluster.seen.clone().unwrap_or_default();

    let mut secrets: Vec<Named> = Vec::new();
    for node in &cluster.nodes {
        secrets.extend(identity_secrets(node.id, &node.coins()));
    }
    let terms: Vec<PresignTerms> = cluster
        .node(MemberId(1))
        .transcripts()
        .filter_map(|transcript| match &transcript.record {
            Proceedings::Presign(record) => Some(record.terms.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(terms.len(), 2);
    let mut exits = Vec::new();
    for terms in &terms {
        let found = pool_secrets(&cluster, terms.pool, terms);
        secrets.extend(found.named);
        exits.push((terms.pool, found.exit.encode().0));
    }
    assert!(secrets.len() > 300, "only {} secrets were computed", secrets.len());
    let leaked = found(&seen, &secrets);
    assert!(leaked.is_empty(), "hosts saw: {leaked:#?}");

    // A whole exit is a secret until the DAO wants it, and public then.
    for (of, exit) in exits {
        let exit = [(format!("{of}'s exit"), exit.to_vec())];
        assert!(found(&before_release, &exit).is_empty(), "{of}'s exit was seen before its release");
        assert_eq!(found(&seen, &exit).is_empty(), of != pool(1), "only pool 1 was released");
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let secret: Vec<u8> = (0..32).map(|byte| byte * 7 + 3).collect();
    let named = [("secret".to_owned(), secret.clone())];
    for encoding in encodings(&secret) {
        let message = [b"before".to_vec(), encoding, b"after".to_vec()].concat();
        assert_eq!(found(&[message], &named).len(), 1);
    }
    assert!(found(&[b"nothing to see here, nothing at all".to_vec()], &named).is_empty());
}

#[test]
fn secrets_print_nothing() {
    let secret = Scalar::from_u64(0x5ec2e7);
    assert_eq!(format!("{secret:?}"), "Scalar(..)");
    assert_eq!(format!("{:?}", G2::generator() * &secret), "G2(..)");
}
