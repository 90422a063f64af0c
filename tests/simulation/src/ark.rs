//! What the simulation's root signs besides its intermediate: a provider's intermediate, and revocation lists.

use std::sync::OnceLock;

use x509_cert::{
    Certificate,
    der::{Decode, Encode},
};

use crate::{
    der, keys,
    vcek::{PSS, extension, name},
};

/// The intermediate of cloud providers' keys (ASVK), DER. Its key is the ASK's: only the name is another.
pub fn asvk() -> Vec<u8> {
    static ISSUED: OnceLock<Vec<u8>> = OnceLock::new();
    ISSUED.get_or_init(|| intermediate(&name(&format!("SEV-VLEK-{}", line())), 9)).clone()
}

/// Another certificate of the simulation's intermediate, as genuine as its own: name and key are the same, the serial
/// number is this one.
pub fn another_ask(serial: u8) -> Vec<u8> {
    let ask = Certificate::from_der(keys::ASK).expect("the committed certificate is one");
    intermediate(&ask.tbs_certificate().subject().to_der().expect("a name encodes"), serial)
}

fn intermediate(subject: &[u8], serial: u8) -> Vec<u8> {
    let ask = Certificate::from_der(keys::ASK).expect("the committed certificate is one");
    let body = ask.tbs_certificate();
    let encoded = |value: &dyn Fn() -> x509_cert::der::Result<Vec<u8>>| value().expect("it came from DER");
    let extensions: Vec<Vec<u8>> = body
        .extensions()
        .into_iter()
        .flat_map(|all| all.iter())
        .map(|extension| encoded(&|| extension.to_der()))
        .collect();
    let body = der::value(
        der::SEQUENCE,
        &[
            &der::explicit(0, &der::integer(2)),
            &der::integer(serial),
            PSS,
            &encoded(&|| body.issuer().to_der()),
            &encoded(&|| body.validity().to_der()),
            subject,
            &encoded(&|| body.subject_public_key_info().to_der()),
            &der::explicit(3, &der::value(der::SEQUENCE, &[&extensions.concat()])),
        ],
    );
    signed(&body)
}

/// What the simulation's certificates call their product line.
pub(crate) fn line() -> String {
    let ask = Certificate::from_der(keys::ASK).expect("the committed certificate is one");
    let subject = ask.tbs_certificate().subject().to_string();
    let (_, line) = subject.split_once("CN=SEV-").expect("an intermediate is called so");
    line.split(',').next().unwrap_or_default().to_owned()
}

/// A revocation list. Every part may be made wrong before [`RevocationList::issue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    /// 1 for version 2, the only one that AMD makes.
    pub version: u8,
    /// Whether its issuer is the ARK, as it should be, or the ASK.
    pub by_ark: bool,
    /// Begin, `YYMMDDHHMMSSZ`.
    pub this_update: String,
    /// End, the same; none for a list that never ends.
    pub next_update: Option<String>,
    /// Serial numbers, big-endian.
    pub revoked: Vec<Vec<u8>>,
    /// Extensions: OID (content bytes), critical, value.
    pub extensions: Vec<(Vec<u8>, Option<bool>, Vec<u8>)>,
}

impl Default for RevocationList {
    /// A good list that revokes nothing.
    fn default() -> Self {
        Self {
            version: 1,
            by_ark: true,
            this_update: "260101000000Z".into(),
            next_update: Some("270101000000Z".into()),
            revoked: Vec::new(),
            // Number 1.
            extensions: vec![(vec![0x55, 0x1D, 0x14], None, vec![0x02, 0x01, 0x01])],
        }
    }
}

impl RevocationList {
    /// The serial number of the simulation's intermediate.
    pub fn serial_of_ask() -> Vec<u8> {
        let ask = Certificate::from_der(keys::ASK).expect("the committed certificate is one");
        ask.tbs_certificate().serial_number().as_bytes().to_vec()
    }

    /// Signs the list as the simulation's root: DER.
    pub fn issue(&self) -> Vec<u8> {
        let issuer = Certificate::from_der(if self.by_ark { keys::ARK } else { keys::ASK });
        let issuer = issuer.expect("the committed certificate is one");
        let issuer = issuer.tbs_certificate().subject().to_der().expect("a name encodes");
        let time = |text: &str| der::value(der::UTC_TIME, &[text.as_bytes()]);
        let revoked: Vec<Vec<u8>> = self
            .revoked
            .iter()
            .map(|serial| {
                der::value(der::SEQUENCE, &[&der::value(der::INTEGER, &[serial]), &time(&self.this_update)])
            })
            .collect();
        let revoked =
            if revoked.is_empty() { Vec::new() } else { der::value(der::SEQUENCE, &[&revoked.concat()]) };
        let extensions: Vec<Vec<u8>> = self
            .extensions
            .iter()
            .map(|(oid, critical, content)| extension(oid, *critical, content))
            .collect();
        let extensions = der::explicit(0, &der::value(der::SEQUENCE, &[&extensions.concat()]));
        signed(&der::value(
            der::SEQUENCE,
            &[
                &der::integer(self.version),
                PSS,
                &issuer,
                &time(&self.this_update),
                &self.next_update.as_deref().map(time).unwrap_or_default(),
                &revoked,
                if self.extensions.is_empty() { &[] } else { &extensions },
            ],
        ))
    }
}

fn signed(body: &[u8]) -> Vec<u8> {
    der::value(der::SEQUENCE, &[body, PSS, &der::bit_string(&keys::sign_as_ark(body))])
}
