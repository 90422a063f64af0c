//! `postern manifest check|show|propose|sign|apply|await-cut`.

use super::epochs::must_not_return;
use super::proposal::Proposal;
use super::show::Shown;
use super::{ManifestFileError, apply, await_cut, load_epochs, read, with_statuses};
use crate::config::{read_data_dir, read_manifest, read_manifest_of};
use crate::key_file;
use crate::output::say;
use alloy::primitives::B256;
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use postern_shared::ecdsa::EthereumSignature;
use postern_shared::epoch::{SignedEpoch, follow};
use postern_shared::ids::MemberId;
use postern_shared::manifest::{History, Manifest};
use std::path::{Path, PathBuf};

/// Work with manifests.
#[derive(Debug, clap::Subcommand)]
pub enum ManifestCommand {
    /// Check a manifest and print its hash.
    Check {
        /// The manifest, TOML.
        file: PathBuf,
    },
    /// Show a manifest; of a proposal or a kept epoch also what it changes and who signed it.
    Show(ShowArguments),
    /// Propose an edited manifest as the next epoch.
    Propose(ProposeArguments),
    /// Add a member's signature to a proposal.
    Sign(SignArguments),
    /// Put a proposal that a quorum signed into force on this host.
    Apply(ApplyArguments),
    /// Have this member's enclave take no part until an epoch makes a cut (after a loss of power of so many that nobody can
    /// return); the host's status then says what that epoch must say of it.
    AwaitCut(Host),
}

/// See [`ManifestCommand::Show`].
#[derive(Debug, clap::Args)]
pub struct ShowArguments {
    /// A manifest (TOML), a proposal (JSON), or a kept epoch (`data/epochs/N.epoch`).
    file: PathBuf,
    /// The first manifest, TOML: checks a kept epoch by the epochs beside it.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    manifest: Option<PathBuf>,
    /// The host's configuration, which names the first manifest.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long, conflicts_with = "toml")]
    json: bool,
    /// Print the manifest as TOML, to be edited for the next epoch.
    #[arg(long)]
    toml: bool,
}

/// Where the manifest in force comes from.
#[derive(Debug, clap::Args)]
struct InForce {
    /// The host's configuration: its manifest, and the epochs in its data directory.
    #[arg(long, value_name = "FILE", required_unless_present = "manifest", conflicts_with_all = ["manifest", "data_dir"])]
    config: Option<PathBuf>,
    /// The manifest that the host started with, TOML.
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// The data directory with the epochs after it.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// See [`ManifestCommand::Propose`].
#[derive(Debug, clap::Args)]
pub struct ProposeArguments {
    #[command(flatten)]
    in_force: InForce,
    /// The manifest in force, edited; `epoch` and `history` are filled in.
    #[arg(long, value_name = "FILE", required_unless_present = "status")]
    new: Option<PathBuf>,
    /// A member's status (`data/status.json`): names its enclave, and the copy of it that waits for a cut. One for each.
    #[arg(long, value_name = "FILE")]
    status: Vec<PathBuf>,
    /// Where to write the proposal; must not be there yet.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// See [`ManifestCommand::Sign`].
#[derive(Debug, clap::Args)]
pub struct SignArguments {
    /// The proposal.
    proposal: PathBuf,
    /// Whose signature.
    #[arg(long, value_name = "NUMBER")]
    member: u16,
    /// File with the wallet's secret key, 32 bytes in hexadecimal.
    #[arg(long, value_name = "FILE", required_unless_present = "signature", conflicts_with = "signature")]
    key_file: Option<PathBuf>,
    /// A signature that another wallet made of the proposal's `typed_data` (eth_signTypedData_v4).
    #[arg(long, value_name = "HEX")]
    signature: Option<String>,
}

/// See [`ManifestCommand::Apply`].
#[derive(Debug, clap::Args)]
pub struct ApplyArguments {
    /// The proposal.
    proposal: PathBuf,
    #[command(flatten)]
    on: Host,
}

/// A host: its first manifest and its data directory.
#[derive(Debug, clap::Args)]
pub struct Host {
    /// The host's configuration.
    #[arg(long, value_name = "FILE", required_unless_present = "data_dir", conflicts_with_all = ["manifest", "data_dir"])]
    config: Option<PathBuf>,
    /// The manifest that the host started with, TOML.
    #[arg(long, value_name = "FILE", requires = "data_dir")]
    manifest: Option<PathBuf>,
    /// The host's data directory.
    #[arg(long, value_name = "DIR", requires = "manifest")]
    data_dir: Option<PathBuf>,
}

impl Host {
    /// The manifest that it started with, and its data directory.
    fn places(&self) -> Result<(Manifest, PathBuf), ManifestFileError> {
        match (&self.config, &self.manifest, &self.data_dir) {
            (None, Some(manifest), Some(data_dir)) => Ok((read_manifest(manifest)?, data_dir.clone())),
            // The grammar wants one of them.
            (config, ..) => {
                let config = config.clone().unwrap_or_default();
                Ok((read_manifest_of(&config)?, read_data_dir(&config)?))
            }
        }
    }
}

impl ManifestCommand {
    /// Does what is asked for and prints the result.
    pub fn run(self) -> Result<(), ManifestFileError> {
        match self {
            Self::Check { file } => {
                say(format_args!("{}\n", read_manifest(&file)?.hash()))?;
                Ok(())
            }
            Self::Show(arguments) => arguments.run(),
            Self::Propose(arguments) => arguments.run(),
            Self::Sign(arguments) => arguments.run(),
            Self::Apply(arguments) => arguments.run(),
            Self::AwaitCut(host) => await_cut(&host.places()?.1),
        }
    }
}

impl ShowArguments {
    fn run(self) -> Result<(), ManifestFileError> {
        let (manifest, shown) = self.read()?;
        if self.toml {
            say(format_args!("{}", manifest.to_toml()?))?;
        } else if self.json {
            say(format_args!("{}\n", serde_json::to_string(&shown).unwrap_or_default()))?;
        } else {
            say(format_args!("{shown}"))?;
        }
        Ok(())
    }

    fn read(&self) -> Result<(Manifest, Shown), ManifestFileError> {
        if self.file.extension().is_some_and(|extension| extension == "epoch") {
            return self.read_epoch();
        }
        let bytes = read(&self.file)?;
        if bytes.trim_ascii_start().starts_with(b"{") {
            let proposal = Proposal::parse(&self.file, &bytes)?;
            let shown = Shown::proposal(&proposal);
            return Ok((proposal.manifest, shown));
        }
        let manifest = read_manifest(&self.file)?;
        let shown = Shown::manifest(&manifest);
        Ok((manifest, shown))
    }

    fn read_epoch(&self) -> Result<(Manifest, Shown), ManifestFileError> {
        let refused = |source| ManifestFileError::Epoch { path: self.file.clone(), source };
        let signed = super::read_epoch(&self.file)?;
        let manifest = Manifest::from_canonical(&signed.manifest).map_err(|error| refused(error.into()))?;
        let first = match (&self.manifest, &self.config) {
            (Some(manifest), _) => Some(read_manifest(manifest)?),
            (None, Some(config)) => Some(read_manifest_of(config)?),
            (None, None) => None,
        };
        let Some(first) = first else {
            let shown = Shown::unchecked(&signed, &manifest);
            return Ok((manifest, shown));
        };
        let predecessor = self.predecessor(&first, &manifest)?;
        signed.verify(&predecessor).map_err(refused)?;
        let mut proposal = Proposal::new(predecessor, manifest).map_err(refused)?;
        proposal.signers = signed.signers(&proposal.predecessor).map_err(refused)?;
        let shown = Shown::proposal(&proposal);
        Ok((proposal.manifest, shown))
    }

    /// The manifest before, by the epochs that lie beside the file.
    fn predecessor(&self, first: &Manifest, manifest: &Manifest) -> Result<Manifest, ManifestFileError> {
        let folder = self.file.parent().unwrap_or(Path::new(""));
        if manifest.epoch <= first.epoch {
            return Err(ManifestFileError::NotAfter { start: first.epoch, found: manifest.epoch });
        }
        let between = first.epoch + 1..manifest.epoch;
        let epochs: Result<Vec<SignedEpoch>, _> =
            between.map(|number| super::read_epoch(&folder.join(format!("{number}.epoch")))).collect();
        follow(first, &epochs?).map_err(|source| ManifestFileError::Chain { path: folder.to_owned(), source })
    }
}

impl InForce {
    /// All manifests, the newest last. The grammar wants one at least.
    fn read(&self) -> Result<Vec<Manifest>, ManifestFileError> {
        let Self { config, manifest, data_dir } = self;
        manifests(config.as_deref(), manifest.as_deref(), data_dir.as_deref())
    }
}

/// A DAO's manifests, the newest last: of a host's configuration, or the one given and the epochs after it that a data directory
/// has. None of neither.
pub fn manifests(
    config: Option<&Path>,
    manifest: Option<&Path>,
    data_dir: Option<&Path>,
) -> Result<Vec<Manifest>, ManifestFileError> {
    let (start, data_dir) = match (config, manifest) {
        (Some(config), _) => (read_manifest_of(config)?, Some(read_data_dir(config)?)),
        (None, Some(manifest)) => (read_manifest(manifest)?, data_dir.map(Path::to_owned)),
        (None, None) => return Ok(Vec::new()),
    };
    match data_dir {
        Some(data_dir) => Ok(load_epochs(&data_dir, &start)?.manifests),
        None => Ok(vec![start]),
    }
}

impl ProposeArguments {
    fn run(self) -> Result<(), ManifestFileError> {
        let chain = self.in_force.read()?;
        let Some(current) = chain.last().cloned() else { return Ok(()) };
        let path = self.new.clone().or_else(|| self.status.first().cloned()).unwrap_or_default();
        let refused = |source| ManifestFileError::Epoch { path: path.clone(), source };
        let manifest = match &self.new {
            Some(new) => next_edition(new, &current)?,
            None => next_after(&current, current.clone()),
        };
        let manifest = with_statuses(&current, manifest, &self.status)?;
        let proposal = Proposal::new(current, manifest).map_err(refused)?;
        must_not_return(&chain, &proposal.manifest).map_err(refused)?;
        proposal.write_new(&self.out)?;
        for change in proposal.message.changes.lines() {
            say(format_args!("{change}\n"))?;
        }
        let members = proposal.predecessor.members.len();
        say(format_args!("epoch {}, manifest {}\n", proposal.message.epoch, proposal.message.manifest))?;
        say(format_args!("{} of {members} members must sign {}\n", proposal.needed(), self.out.display()))?;
        Ok(())
    }
}

/// Reads an edited manifest, and puts it after the one in force. `epoch` and `history` may say either what they said
/// before editing or what they will say.
fn next_edition(path: &Path, current: &Manifest) -> Result<Manifest, ManifestFileError> {
    let text = |reason: String| ManifestFileError::Text { path: path.to_owned(), what: "a manifest", reason };
    let bytes = String::from_utf8(read(path)?).map_err(|error| text(error.to_string()))?;
    let edited: Manifest = toml::from_str(&bytes).map_err(|error| text(error.to_string()))?;
    let next = (
        current.epoch.saturating_add(1),
        Some(History { genesis: current.genesis(), predecessor: current.hash() }),
    );
    let found = (edited.epoch, edited.history);
    if found != next && found != (current.epoch, current.history) {
        let (expected, found) = (current.epoch, edited.epoch);
        return Err(ManifestFileError::NotAnEdition { path: path.to_owned(), expected, found });
    }
    Ok(next_after(current, edited))
}

fn next_after(current: &Manifest, edited: Manifest) -> Manifest {
    let history = History { genesis: current.genesis(), predecessor: current.hash() };
    Manifest { epoch: current.epoch.saturating_add(1), history: Some(history), ..edited }
}

impl SignArguments {
    fn run(self) -> Result<(), ManifestFileError> {
        let mut proposal = Proposal::read(&self.proposal)?;
        let member = MemberId(self.member);
        if proposal.predecessor.member(member).is_none() {
            return Err(ManifestFileError::Stranger(member));
        }
        let signature = match (&self.key_file, &self.signature) {
            (Some(path), _) => sign(path, &proposal.message.digest())?,
            (None, Some(text)) => parse_signature(text)?,
            // The grammar wants one of them.
            (None, None) => return Ok(()),
        };
        let added = proposal
            .add(member, signature)
            .map_err(|source| ManifestFileError::Epoch { path: self.proposal.clone(), source })?;
        if added {
            proposal.replace(&self.proposal)?;
        }
        for change in proposal.message.changes.lines() {
            say(format_args!("{change}\n"))?;
        }
        let when = if added { "signed" } else { "had signed already" };
        say(format_args!("{member} {when}: {signature}\n"))?;
        say(format_args!("{} of {} needed signatures\n", proposal.signers.len(), proposal.needed()))?;
        Ok(())
    }
}

/// Signs with a key in a file; no error shows what is in it.
fn sign(path: &Path, digest: &[u8; 32]) -> Result<EthereumSignature, ManifestFileError> {
    let wrong = || ManifestFileError::Key { path: path.to_owned() };
    let key = key_file::read(path)
        .map_err(|source| ManifestFileError::KeyFile { path: path.to_owned(), source })?;
    let wallet = PrivateKeySigner::from_slice(&*key).map_err(|_| wrong())?;
    let signature = wallet.sign_hash_sync(&B256::from(*digest)).map_err(|_| wrong())?;
    Ok(EthereumSignature(signature.as_bytes()))
}

/// Reads a wallet's signature. Some wallets count `v` from 0 instead of 27; for the manifest there is one form only.
fn parse_signature(text: &str) -> Result<EthereumSignature, ManifestFileError> {
    let mut signature: EthereumSignature =
        text.trim().parse().map_err(|error| ManifestFileError::Signature(format!("{error}")))?;
    if let [.., v @ (0 | 1)] = &mut signature.0 {
        *v += 27;
    }
    Ok(signature)
}

impl ApplyArguments {
    fn run(self) -> Result<(), ManifestFileError> {
        let proposal = Proposal::read(&self.proposal)?;
        let (start, data_dir) = self.on.places()?;
        say(format_args!("{}\n", apply(&proposal, &data_dir, &start)?.display()))?;
        Ok(())
    }
}
