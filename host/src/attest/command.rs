//! `postern attest show|verify|floors|export`.

use super::evidence::Subject;
use super::{AttestError, Question, Verdict, floors, judge, show};
use crate::certificates::folder;
use crate::clock::now;
use crate::config::read_manifest;
use crate::link::EnclaveAddress;
use crate::output::say;
use postern_attestation::Time;
use postern_shared::bytes::from_hex;
use postern_shared::manifest::Manifest;
use postern_shared::policy::{AttestationRules, Trust};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use x509_cert::der::DateTime;

/// Evidence: what machine an enclave runs on, and with what code.
#[derive(Debug, clap::Subcommand)]
pub enum AttestCommand {
    /// Explain a report: field, value, meaning, verdict.
    Show(ShowArguments),
    /// Check evidence; fails unless every check holds.
    Verify(VerifyArguments),
    /// Print what each kind of silicon must reach; of a report, every value that is too low. Fails if there is one.
    Floors(FloorsArguments),
    /// Write report and certificates as other tools want them (`snpguest verify attestation DIR DIR/report.bin`).
    Export(ExportArguments),
}

/// See [`AttestCommand::Show`].
#[derive(Debug, clap::Args)]
pub struct ShowArguments {
    /// A report (binary, hexadecimal or base64, also as firmware or Azure wrap it), evidence (JSON), or an enclave's
    /// address: vsock:CID:PORT, unix:PATH.
    #[arg(value_name = "FILE|ADDR")]
    source: String,
    #[command(flatten)]
    by: By,
}

/// See [`AttestCommand::Verify`].
#[derive(Debug, clap::Args)]
pub struct VerifyArguments {
    /// A bare report: binary, hexadecimal or base64, also as firmware or Azure wrap it.
    #[arg(long, value_name = "FILE", requires = "certs", conflicts_with = "evidence")]
    report: Option<PathBuf>,
    /// Evidence in JSON.
    #[arg(long, value_name = "FILE", required_unless_present = "report")]
    evidence: Option<PathBuf>,
    #[command(flatten)]
    by: By,
    /// Print the verdict as one JSON object.
    #[arg(long)]
    json: bool,
}

/// See [`AttestCommand::Floors`].
#[derive(Debug, clap::Args)]
pub struct FloorsArguments {
    /// A report or evidence, as for `show`.
    #[arg(value_name = "FILE|ADDR")]
    source: Option<String>,
    /// The DAO's manifest, which may be stricter, or laxer by name. Without it: the built-in floors.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
}

/// See [`AttestCommand::Export`].
#[derive(Debug, clap::Args)]
pub struct ExportArguments {
    /// Evidence (JSON), a report with --certs, or an enclave's address.
    #[arg(value_name = "FILE|ADDR")]
    source: String,
    /// A folder of certificates, instead of those that came with the report.
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// Where to; must be empty or not there.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

/// By what evidence is judged.
#[derive(Debug, clap::Args)]
struct By {
    /// The DAO's manifest. Without it the built-in rules apply, and what only a manifest can answer is left out.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// A folder of certificates, named as `snpguest` does, instead of those that came with the report.
    #[arg(long, value_name = "DIR")]
    certs: Option<PathBuf>,
    /// What must have been signed: the verifier's nonce, or for a bare report the begin of its report data.
    #[arg(long, value_name = "HEX", value_parser = parse_nonce)]
    nonce: Option<Nonce>,
    /// Judge validity as of this time (unix seconds or YYYY-MM-DDThh:mm:ssZ) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<u64>,
}

/// Bytes of any length; its own type, since clap would take a vector for many values.
#[derive(Debug, Clone)]
struct Nonce(Vec<u8>);

fn parse_nonce(text: &str) -> Result<Nonce, String> {
    from_hex(text).map(Nonce).map_err(|error| error.to_string())
}

fn parse_time(text: &str) -> Result<u64, AttestError> {
    text.parse().or_else(|_| {
        DateTime::from_str(text)
            .map(|time| time.unix_duration().as_secs())
            .map_err(|_| AttestError::Time(text.to_owned()))
    })
}

impl AttestCommand {
    /// Prints what is asked for; whether the evidence is accepted.
    pub async fn execute(self) -> Result<bool, AttestError> {
        match self {
            Self::Show(ShowArguments { source, by }) => {
                let subject = by.complete(open(&source).await?)?;
                let (manifest, time) = by.read()?;
                let judgement = judge(&subject, &by.question(manifest.as_ref(), time))?;
                say(format_args!("{}", show(&judgement)))?;
                // Showing is no verdict.
                Ok(true)
            }
            Self::Verify(VerifyArguments { report, evidence, by, json }) => {
                let subject = match (&report, &evidence) {
                    (Some(path), _) => Subject::read_report(path)?,
                    (None, Some(path)) => Subject::read(path)?,
                    (None, None) => return Err(AttestError::NoCertificates),
                };
                let subject = by.complete(subject)?;
                if subject.evidence().is_none() {
                    return Err(AttestError::NoCertificates);
                }
                let (manifest, time) = by.read()?;
                let judgement = judge(&subject, &by.question(manifest.as_ref(), time))?;
                if json {
                    let verdict = serde_json::to_string(&Verdict::from(&judgement));
                    say(format_args!("{}\n", verdict.unwrap_or_default()))?;
                } else {
                    say(format_args!("{}", show(&judgement)))?;
                }
                Ok(judgement.accepts())
            }
            Self::Floors(FloorsArguments { source, manifest }) => {
                let manifest = manifest.as_deref().map(read_manifest).transpose()?;
                let rules = manifest.as_ref().map_or_else(
                    || AttestationRules::strict(Trust::Amd),
                    |manifest| manifest.attestation.clone(),
                );
                say(format_args!("{}", floors(&rules)))?;
                let Some(source) = source else { return Ok(true) };
                let question =
                    Question { manifest: manifest.as_ref(), nonce: None, time: Time::NotBefore(0) };
                let judgement = judge(&open(&source).await?, &question)?;
                let (text, reached) = judgement.by_floors(&rules);
                say(format_args!("\n{text}"))?;
                Ok(reached)
            }
            Self::Export(ExportArguments { source, certs, dir }) => {
                let subject = complete(open(&source).await?, certs.as_deref())?;
                let evidence = subject.evidence().ok_or(AttestError::NoCertificates)?;
                folder::export(&dir, &evidence.report, &evidence.certificates)?;

                say(format_args!("{}\n", dir.display()))?;
                Ok(true)
            }
        }
    }
}

impl By {
    fn complete(&self, subject: Subject) -> Result<Subject, AttestError> {
        complete(subject, self.certs.as_deref())
    }

    fn read(&self) -> Result<(Option<Manifest>, Time), AttestError> {
        let manifest = self.manifest.as_deref().map(read_manifest).transpose()?;
        Ok((manifest, Time::At(self.at.unwrap_or_else(now))))
    }

    fn question<'a>(&'a self, manifest: Option<&'a Manifest>, time: Time) -> Question<'a> {
        Question { manifest, nonce: self.nonce.as_ref().map(|nonce| &nonce.0[..]), time }
    }
}

fn complete(subject: Subject, certs: Option<&Path>) -> Result<Subject, AttestError> {
    match certs {
        Some(path) => Ok(subject.with_certificates(folder::read(path)?)),
        None => Ok(subject),
    }
}

/// A file if there is one of that name, or else an enclave.
async fn open(source: &str) -> Result<Subject, AttestError> {
    let path = Path::new(source);
    if path.exists() {
        return Subject::read(path);
    }
    match EnclaveAddress::parse(source, Path::new("")) {
        Ok(address) => Subject::ask(&address).await,
        // Whoever means a file is told that there is none.
        Err(_) if !source.contains(':') => Subject::read(path),
        Err(error) => Err(error.into()),
    }
}
