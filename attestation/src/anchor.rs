//! Whose word counts: the pinned roots.

use alloc::{borrow::Cow, string::String, vec::Vec};
use core::fmt;

use sha2::{Digest, Sha256};

use postern_shared::snp::Product;

/// Separates anchor fingerprints from all other hashes.
const DOMAIN: &[u8] = b"postern-trust-anchor-v1";

/// One pinned root certificate.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Root {
    /// The only product line that this root speaks for; none for a simulated root, which speaks for all.
    pub(crate) product: Option<Product>,
    der: Cow<'static, [u8]>,
}

/// The root certificates by which evidence is judged, compared byte for byte.
///
/// It comes from the platform and not from a flag: a simulated machine brings its own root and takes the
/// production path, and nothing that a host says can add a root to a real one.
#[derive(Clone, PartialEq, Eq)]
pub struct TrustAnchor {
    name: Cow<'static, str>,
    roots: Vec<Root>,
    amd: bool,
}

impl TrustAnchor {
    /// AMD's roots for Milan, Genoa and Turin, compiled in (`roots/PROVENANCE.md`).
    pub fn amd() -> Self {
        let root = |product, der: &'static [u8]| Root { product: Some(product), der: Cow::Borrowed(der) };
        Self {
            name: Cow::Borrowed("AMD"),
            roots: [
                root(Product::Milan, include_bytes!("../roots/ark-milan.der")),
                root(Product::Genoa, include_bytes!("../roots/ark-genoa.der")),
                root(Product::Turin, include_bytes!("../roots/ark-turin.der")),
            ]
            .into(),
            amd: true,
        }
    }

    /// Roots that are not AMD's: for simulated machines. `roots` are DER certificates.
    pub fn custom(name: impl Into<String>, roots: Vec<Vec<u8>>) -> Self {
        Self {
            name: Cow::Owned(name.into()),
            roots: roots.into_iter().map(|der| Root { product: None, der: Cow::Owned(der) }).collect(),
            amd: false,
        }
    }

    /// What to call it in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether these are AMD's roots as compiled in.
    pub fn is_amd(&self) -> bool {
        self.amd
    }

    /// The pinned certificates, DER.
    pub fn roots(&self) -> impl Iterator<Item = &[u8]> {
        self.roots.iter().map(|root| root.der.as_ref())
    }

    /// SHA-256 over the domain and the length-prefixed (`u64`, little-endian) roots in their order. The name
    /// is left out: it decides nothing.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        for root in self.roots() {
            hash.update((root.len() as u64).to_le_bytes());
            hash.update(root);
        }
        hash.finalize().into()
    }

    /// The root that equals `der` byte for byte.
    pub(crate) fn find(&self, der: &[u8]) -> Option<&Root> {
        self.roots.iter().find(|root| root.der.as_ref() == der)
    }
}

impl fmt::Debug for TrustAnchor {
    /// Without the certificates: they are long, and the fingerprint says which they are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustAnchor")
            .field("name", &self.name)
            .field("amd", &self.amd)
            .field("fingerprint", &crate::error::Hex(self.fingerprint()))
            .finish_non_exhaustive()
    }
}
