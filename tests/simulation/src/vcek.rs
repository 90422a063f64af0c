//! Leaf certificates, right ones and wrong ones (57230, VCEK certificate definition).

use postern_shared::snp::{Product, TcbVersion};
use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

use crate::{ark, der, keys, machine::Machine};

/// RSASSA-PSS, SHA-384, MGF1-SHA-384, 48 bytes of salt, as in AMD's leaves.
pub(crate) const PSS: &[u8] = &[
    0x30, 0x41, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x0A, 0x30, 0x34, 0xA0, 0x0F,
    0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xA1, 0x1C,
    0x30, 0x1A, 0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x08, 0x30, 0x0D, 0x06, 0x09,
    0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0xA2, 0x03, 0x02, 0x01, 0x30,
];
/// id-ecPublicKey with secp384r1.
const P384: &[u8] = &[
    0x30, 0x10, 0x06, 0x07, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01, 0x06, 0x05, 0x2B, 0x81, 0x04, 0x00,
    0x22,
];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0A];
/// 1.3.6.1.4.1.3704.1, under which AMD's extensions are.
const AMD: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0x9C, 0x78, 0x01];

/// The TCB extensions: number under 1.3.6.1.4.1.3704.1.3, and value.
pub type TcbParts = Vec<(u8, u8)>;

/// What a VCEK certificate says. Every part may be made wrong before [`Vcek::issue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vcek {
    /// Common name of the subject: `SEV-VCEK`.
    pub common_name: String,
    /// Begin of validity, `YYMMDDHHMMSSZ`.
    pub not_before: String,
    /// End of validity, the same.
    pub not_after: String,
    /// Uncompressed P-384 point.
    pub public_key: Vec<u8>,
    /// Version of the extensions' structure.
    pub struct_version: u8,
    /// Product line, perhaps with a stepping.
    pub product_name: String,
    /// Parts of the TCB.
    pub tcb: TcbParts,
    /// Hardware id: 64 bytes, 8 on Turin. Empty for none, as in a VLEK.
    pub hardware_id: Vec<u8>,
    /// The cloud provider of a VLEK (`CSP_ID`).
    pub provider: Option<String>,
    /// Further extensions: OID (content bytes), whether critical if that is spelt out, value.
    pub extra_extensions: Vec<(Vec<u8>, Option<bool>, Vec<u8>)>,
}

impl Vcek {
    /// The certificate that AMD would issue, if the machine and its key were AMD's.
    pub(crate) fn honest(machine: &Machine, public_key: Vec<u8>) -> Self {
        let product = machine.product();
        Self {
            common_name: "SEV-VCEK".into(),
            not_before: "200101000000Z".into(),
            not_after: "491231235959Z".into(),
            public_key,
            struct_version: product.struct_version(),
            product_name: product.name().into(),
            tcb: parts(product, &machine.tcb),
            hardware_id: machine.chip_id()[..product.hardware_id_len()].to_vec(),
            provider: None,
            extra_extensions: Vec::new(),
        }
    }

    /// The same key, lent to a provider: what AMD would certify as a VLEK.
    pub fn lent_to(self, provider: &str) -> Self {
        Self {
            common_name: "SEV-VLEK".into(),
            hardware_id: Vec::new(),
            provider: Some(provider.into()),
            ..self
        }
    }

    /// Signs the certificate as the simulation's intermediate, or for a provider as that one's: DER.
    pub fn issue(&self) -> Vec<u8> {
        let issuer = match self.provider {
            Some(_) => name(&format!("SEV-VLEK-{}", ark::line())),
            None => {
                let ask = Certificate::from_der(keys::ASK).expect("the committed certificate is one");
                ask.tbs_certificate().subject().to_der().expect("a name encodes")
            }
        };
        let subject = name(&self.common_name);
        let time = |text: &str| der::value(der::UTC_TIME, &[text.as_bytes()]);
        let body = der::value(
            der::SEQUENCE,
            &[
                &der::explicit(0, &der::integer(2)), // X.509 version 3
                &der::integer(0),                    // serial number: all of AMD's leaves have zero
                PSS,
                &issuer,
                &der::value(der::SEQUENCE, &[&time(&self.not_before), &time(&self.not_after)]),
                &subject,
                &der::value(der::SEQUENCE, &[P384, &der::bit_string(&self.public_key)]),
                &der::explicit(3, &der::value(der::SEQUENCE, &[&self.extensions()])),
            ],
        );
        let signature = keys::sign_as_ask(&body);
        der::value(der::SEQUENCE, &[&body, PSS, &der::bit_string(&signature)])
    }

    fn extensions(&self) -> Vec<u8> {
        let amd = |suffix: &[u8], content: &[u8]| extension(&[AMD, suffix].concat(), None, content);
        let mut all = vec![
            amd(&[1], &der::integer(self.struct_version)),
            amd(&[2], &der::value(der::IA5_STRING, &[self.product_name.as_bytes()])),
        ];
        all.extend(self.tcb.iter().map(|&(number, part)| amd(&[3, number], &der::integer(part))));
        if !self.hardware_id.is_empty() {
            all.push(amd(&[4], &self.hardware_id));
        }
        if let Some(provider) = &self.provider {
            all.push(amd(&[5], &der::value(der::IA5_STRING, &[provider.as_bytes()])));
        }
        all.extend(
            self.extra_extensions.iter().map(|(oid, critical, content)| extension(oid, *critical, content)),
        );
        all.concat()
    }
}

/// A name of the simulation's.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    let attribute = |oid: &[u8], text: &str| {
        let (oid, text) =
            (der::value(der::OBJECT_IDENTIFIER, &[oid]), der::value(der::UTF8_STRING, &[text.as_bytes()]));
        der::value(der::SET, &[&der::value(der::SEQUENCE, &[&oid, &text])])
    };
    let organization = attribute(ORGANIZATION, "POSTERN SIMULATION NO SECURITY");
    der::value(der::SEQUENCE, &[&organization, &attribute(COMMON_NAME, common_name)])
}

/// One extension. `FALSE` is the default, which DER leaves out.
pub(crate) fn extension(oid: &[u8], critical: Option<bool>, content: &[u8]) -> Vec<u8> {
    let spelt = |critical| der::value(der::BOOLEAN, &[&[if critical { 0xFF } else { 0 }]]);
    let critical = critical.map_or_else(Vec::new, spelt);
    der::value(
        der::SEQUENCE,
        &[&der::value(der::OBJECT_IDENTIFIER, &[oid]), &critical, &der::value(der::OCTET_STRING, &[content])],
    )
}

/// The TCB as AMD numbers its parts, in the order of real certificates.
fn parts(product: Product, tcb: &TcbVersion) -> TcbParts {
    let (bootloader, tee, snp) = ((1, tcb.bootloader), (2, tcb.tee), (3, tcb.snp));
    let unused = [(5, 0), (6, 0), (7, 0)];
    let mut parts = match (product, tcb.fmc) {
        (Product::Turin, Some(fmc)) => vec![(9, fmc), bootloader, tee, snp],
        _ => vec![bootloader, tee, snp, (4, 0)],
    };
    parts.extend(unused);
    parts.push((8, tcb.microcode));
    parts
}
