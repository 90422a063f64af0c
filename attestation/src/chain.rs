//! From a pinned root to the key that signs reports: ARK → ASK → VCEK, or ARK → ASVK → VLEK (57230, certificate chain).

use alloc::string::ToString;

use postern_shared::{
    message::Certificates,
    snp::{Product, TcbVersion},
};
use sha2::{Digest, Sha256};

use crate::{
    anchor::TrustAnchor,
    certificate::Certificate,
    crl::{self, List},
    endorsement::{Endorsement, Holder},
    error::{CertificateRole as Role, ChainError, CrlError, Hex},
    revoked::is_revoked,
    signature::{p384_key, rsa_key, rsa_verifies},
    time::Time,
};

/// What certificates say of the key that they lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certified {
    /// The product line.
    pub product: Product,
    /// What the key was derived from.
    pub tcb: TcbVersion,
    /// Which chip's it is, padded with zeros as in a report; none if it is a provider's.
    pub chip_id: Option<[u8; 64]>,
}

/// Verifies certificates for their own sake, without a report, a time or a revocation list: whoever keeps certificates
/// for later use wants to know what they are good for.
pub fn certified(certificates: &Certificates, anchor: &TrustAnchor) -> Result<Certified, ChainError> {
    let chain = Chain::judge(&Certificates { crl: None, ..certificates.clone() }, anchor, Time::NotBefore(0));
    chain.proof?;
    let Some(Leaf { endorsement: Endorsement { product, tcb, holder }, .. }) = chain.leaf else {
        // A chain that is proved has a leaf.
        return Err(ChainError::Encoding { role: Role::Leaf });
    };
    let chip_id = match holder {
        Holder::Chip(id) => Some(id),
        Holder::Provider(_) => None,
    };
    Ok(Certified { product, tcb, chip_id })
}

/// What certificates prove, and what is wrong with them. Without `proof`, nothing that the leaf says is to be believed.
#[derive(Debug)]
pub(crate) struct Chain {
    /// Each certificate is what its place demands, and the one above it signed it.
    pub(crate) proof: Result<(), ChainError>,
    /// None is known to be outside its validity period.
    pub(crate) validity: Result<(), ChainError>,
    /// The revocation list, if it is in force; `None` if there is no list.
    pub(crate) revocation: Option<Result<List, CrlError>>,
    /// Whether the intermediate is one that AMD is known to have revoked, whatever any list says; `None` if it can't be
    /// read.
    pub(crate) known_revoked: Option<bool>,
    /// What the leaf says, if it can be read.
    pub(crate) leaf: Option<Leaf>,
}

/// A key that signs reports.
#[derive(Debug)]
pub(crate) struct Leaf {
    pub(crate) key: p384::ecdsa::VerifyingKey,
    pub(crate) endorsement: Endorsement,
}

impl Chain {
    /// Looks at everything, also after something is found wrong.
    pub(crate) fn judge(certificates: &Certificates, anchor: &TrustAnchor, time: Time) -> Self {
        let ark = Certificate::parse(Role::Ark, &certificates.ark);
        let ask = Certificate::parse(Role::Ask, &certificates.ask);
        let leaf = Certificate::parse(Role::Leaf, &certificates.leaf);
        let (ark, ask, leaf) = match (ark, ask, leaf) {
            (Ok(ark), Ok(ask), Ok(leaf)) => (ark, ask, leaf),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => return Self::unreadable(error),
        };
        let read = Leaf::read(&leaf);
        Self {
            proof: read
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|read| prove(&certificates.ark, [&ark, &ask, &leaf], &read.endorsement, anchor)),
            validity: [&ark, &ask, &leaf].into_iter().try_for_each(|one| one.check_validity(time)),
            revocation: certificates.crl.as_ref().map(|crl| crl::read(crl, &ark, &ask, time)),
            known_revoked: Some(
                anchor
                    .find(&certificates.ark)
                    .and_then(|root| root.product)
                    .is_some_and(|product| is_revoked(product, ask.body.serial_number())),
            ),
            leaf: read.ok(),
        }
    }

    /// Whether nothing is wrong with it.
    pub(crate) fn is_good(&self) -> bool {
        let names_none = |list: &Result<List, CrlError>| matches!(list, Ok(List { revoked: None, .. }));
        self.proof.is_ok()
            && self.validity.is_ok()
            && self.revocation.as_ref().is_none_or(names_none)
            && self.known_revoked == Some(false)
    }

    fn unreadable(error: ChainError) -> Self {
        Self {
            proof: Err(error.clone()),
            validity: Err(error),
            revocation: Some(Err(CrlError::NoIssuer)),
            known_revoked: None,
            leaf: None,
        }
    }
}

impl Leaf {
    fn read(leaf: &Certificate<'_>) -> Result<Self, ChainError> {
        let key = p384_key(leaf.body.subject_public_key_info())
            .ok_or(ChainError::PublicKey { role: Role::Leaf, expected: "P-384" })?;
        Ok(Self { key, endorsement: Endorsement::read(leaf)? })
    }
}

/// The root is pinned and speaks for this product line; names and signatures lead from it to the leaf.
///
/// The root's signature over itself is not checked: it is trusted because it is pinned. Its shape is.
fn prove(
    root: &[u8],
    [ark, ask, leaf]: [&Certificate<'_>; 3],
    endorsement: &Endorsement,
    anchor: &TrustAnchor,
) -> Result<(), ChainError> {
    let root = anchor.find(root).ok_or_else(|| ChainError::UnknownRoot {
        anchor: anchor.name().to_string(),
        found: Hex(Sha256::digest(root).into()),
    })?;
    check_names(ark, ask, leaf, &endorsement.holder)?;
    check_signature(ark, ask)?;
    check_signature(ask, leaf)?;
    match root.product {
        Some(expected) if expected != endorsement.product => {
            Err(ChainError::Product { expected, found: endorsement.product })
        }
        _ => Ok(()),
    }
}

/// Issuers chain to subjects, and each subject is what its place demands: `ARK-<line>`; `SEV-<line>` over a VCEK,
/// `SEV-VLEK-<line>` over a VLEK. So a provider's intermediate can't vouch for a chip's key, nor the other way round.
fn check_names(
    ark: &Certificate<'_>,
    ask: &Certificate<'_>,
    leaf: &Certificate<'_>,
    holder: &Holder,
) -> Result<(), ChainError> {
    for (issuer, issued) in [(ark, ark), (ark, ask), (ask, leaf)] {
        if issued.body.issuer() != issuer.body.subject() {
            return Err(ChainError::Issuer { role: issued.role });
        }
    }
    let root = ark.common_name().unwrap_or_default();
    let line = root.strip_prefix("ARK-").ok_or_else(|| ChainError::CommonName {
        role: Role::Ark,
        expected: "ARK-<product line>".to_string(),
        found: root.to_string(),
    })?;
    ask.expect_common_name(&match holder {
        Holder::Chip(_) => alloc::format!("SEV-{line}"),
        Holder::Provider(_) => alloc::format!("SEV-VLEK-{line}"),
    })
}

/// `issuer` signed `issued` with an RSA key of 4096 bits.
fn check_signature(issuer: &Certificate<'_>, issued: &Certificate<'_>) -> Result<(), ChainError> {
    let key = rsa_key(issuer.body.subject_public_key_info())
        .ok_or(ChainError::PublicKey { role: issuer.role, expected: "RSA-4096 with exponent 65537" })?;
    rsa_verifies(&key, issued.signed, issued.signature)
        .then_some(())
        .ok_or(ChainError::Signature { role: issued.role })
}
