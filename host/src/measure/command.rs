//! `postern measure`: its arguments, and what it does with them.

use super::Launch;
use super::firmware::{Firmware, FirmwareError, MAX_IMAGE};
use super::id_block::{IdBlock, IdBlockError, PublisherKey, id_auth};
use super::kernel::{KernelError, KernelHashes};
use super::vcpu::{CpuModel, GuestFeatures, VcpuError};
use crate::output::say;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use p384::elliptic_curve::zeroize::Zeroizing;
use postern_attestation::{GuestPolicy, Hex};
use postern_shared::bytes::{HexError, from_hex};
use postern_shared::ids::Measurement;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// More than QEMU can load below 4 GiB, beside all else.
const MAX_KERNEL: usize = 1 << 30;
/// Key files have some hundred bytes.
const MAX_KEY: usize = 64 << 10;

/// What can't be measured, or not be written.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// What was to be said could not be written.
    #[error("{0}")]
    Output(#[from] crate::output::OutputError),
    /// A file can't be read.
    #[error("{path}: {source}", path = path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file is too long to be what it should be.
    #[error("{path}: expected at most {limit} bytes", path = path.display())]
    TooLong {
        /// Which file.
        path: PathBuf,
        /// The limit.
        limit: usize,
    },
    /// The firmware can't be measured, or not with a kernel.
    #[error("{path}: {source}", path = path.display())]
    Firmware {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: FirmwareError,
    },
    /// The kernel or its command line can't be.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The vCPUs can't be.
    #[error(transparent)]
    Vcpus(#[from] VcpuError),
    /// A key file has no usable key.
    #[error("{path}: {source}", path = path.display())]
    Key {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: IdBlockError,
    },
    /// The ID block can't be.
    #[error(transparent)]
    IdBlock(IdBlockError),
    /// The result can't be written.
    #[error("{path}: {source}", path = path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The result can't be printed.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// Arguments of `postern measure`.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    arg_required_else_help = true
)]
pub struct MeasureArguments {
    #[command(subcommand)]
    command: Option<MeasureCommand>,
    #[command(flatten)]
    launch: Option<LaunchArguments>,
}

#[derive(Debug, clap::Subcommand)]
enum MeasureCommand {
    /// Make and sign the ID block of a launch digest, for QEMU's `-object sev-snp-guest,id-block=…,id-auth=…`.
    IdBlock(IdBlockArguments),
}

#[derive(Debug, clap::Args)]
struct LaunchArguments {
    /// The firmware, an OVMF image (QEMU's `-bios`).
    #[arg(long, value_name = "FILE")]
    firmware: PathBuf,
    /// The kernel; the firmware must be one that checks it (QEMU's `kernel-hashes=on`).
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// The kernel's initrd.
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Option<PathBuf>,
    /// The kernel's command line, to the letter.
    #[arg(long, value_name = "CMDLINE", requires = "kernel")]
    append: Option<String>,
    /// Number of vCPUs; repeat for several.
    #[arg(long, value_name = "N", default_value = "1")]
    vcpus: Vec<u32>,
    /// CPU model of QEMU's; repeat for several.
    #[arg(long, value_name = "MODEL", default_value = "EPYC-v4")]
    cpu: Vec<CpuModel>,
    /// SEV_FEATURES of the guest.
    #[arg(long, value_name = "BITS", default_value = "0x1", value_parser = bits)]
    guest_features: u64,
    /// Print one JSON array instead of lines.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct IdBlockArguments {
    /// The launch digest, in hexadecimal.
    #[arg(long, value_name = "HEX", value_parser = hex::<48>)]
    digest: Hex<48>,
    /// The id key, which signs the block: ECDSA P-384, PEM.
    #[arg(long, value_name = "PEM")]
    id_key: PathBuf,
    /// The author key, which signs the id key: likewise.
    #[arg(long, value_name = "PEM")]
    author_key: Option<PathBuf>,
    /// The guest policy that the guest must be launched with.
    #[arg(long, value_name = "BITS", default_value = "0x30000", value_parser = bits)]
    policy: u64,
    /// The image's security version.
    #[arg(long, value_name = "N", default_value_t = 0)]
    guest_svn: u32,
    /// 16 bytes of the publisher's choice, in hexadecimal.
    #[arg(long, value_name = "HEX", value_parser = hex::<16>)]
    family_id: Option<Hex<16>>,
    /// 16 bytes of the publisher's choice, in hexadecimal.
    #[arg(long, value_name = "HEX", value_parser = hex::<16>)]
    image_id: Option<Hex<16>>,
    /// Write `id-block.base64` and `id-auth.base64` to this directory, too.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print one JSON object instead of lines.
    #[arg(long)]
    json: bool,
}

/// One combination, as printed.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) vcpus: u32,
    pub(crate) cpu: String,
    pub(crate) guest_features: u64,
    pub(crate) digest: String,
}

impl Row {
    pub(crate) fn new(
        launch: &Launch,
        vcpus: u32,
        cpu: CpuModel,
        guest_features: u64,
    ) -> Result<Self, VcpuError> {
        let digest = hex::encode(launch.digest(vcpus, cpu, GuestFeatures(guest_features))?.0);
        Ok(Self { vcpus, cpu: cpu.to_string(), guest_features, digest })
    }
}

/// An ID block, as printed.
#[derive(Serialize)]
struct SignedIdBlock {
    id_block: String,
    id_auth: String,
    author_key_enabled: bool,
    id_key_digest: String,
    author_key_digest: Option<String>,
}

impl MeasureArguments {
    /// Measures, or signs, and prints the result.
    pub fn run(self) -> Result<(), MeasureError> {
        match (self.command, self.launch) {
            (Some(MeasureCommand::IdBlock(arguments)), _) => arguments.run(),
            (None, Some(arguments)) => arguments.run(),
            // The grammar wants one of them.
            (None, None) => Ok(()),
        }
    }
}

impl LaunchArguments {
    fn run(self) -> Result<(), MeasureError> {
        let rows = self.measure()?;
        if self.json {
            say(format_args!("{}\n", serde_json::to_string(&rows)?))?;
        } else {
            for Row { vcpus, cpu, guest_features, digest } in rows {
                say(format_args!("{digest} vcpus={vcpus} cpu={cpu} guest-features={guest_features:#x}\n"))?;
            }
        }
        Ok(())
    }

    fn measure(&self) -> Result<Vec<Row>, MeasureError> {
        let wrong = |source| MeasureError::Firmware { path: self.firmware.clone(), source };
        let firmware = Firmware::parse(read(&self.firmware, MAX_IMAGE)?).map_err(wrong)?;
        let kernel = self.kernel.as_ref().map(|kernel| self.hash(kernel)).transpose()?;
        let launch = Launch::new(&firmware, kernel.as_ref()).map_err(wrong)?;
        let mut rows = Vec::new();
        for &vcpus in &self.vcpus {
            for &cpu in &self.cpu {
                rows.push(Row::new(&launch, vcpus, cpu, self.guest_features)?);
            }
        }
        Ok(rows)
    }

    fn hash(&self, kernel: &Path) -> Result<KernelHashes, MeasureError> {
        let initrd = self.initrd.as_ref().map(|initrd| read(initrd, MAX_KERNEL)).transpose()?;
        let command_line = self.append.as_deref().unwrap_or_default();
        Ok(KernelHashes::new(&read(kernel, MAX_KERNEL)?, &initrd.unwrap_or_default(), command_line)?)
    }
}

impl IdBlockArguments {
    fn run(self) -> Result<(), MeasureError> {
        let signed = self.sign()?;
        if let Some(folder) = &self.out {
            write(folder, "id-block.base64", &signed.id_block)?;
            write(folder, "id-auth.base64", &signed.id_auth)?;
        }
        if self.json {
            say(format_args!("{}\n", serde_json::to_string(&signed)?))?;
            return Ok(());
        }
        say(format_args!("id-block={}\n", signed.id_block))?;
        say(format_args!("id-auth={}\n", signed.id_auth))?;
        say(format_args!("author-key-enabled={}\n", if signed.author_key_enabled { "on" } else { "off" }))?;
        say(format_args!("id-key-digest={}\n", signed.id_key_digest))?;
        if let Some(digest) = signed.author_key_digest {
            say(format_args!("author-key-digest={digest}\n"))?;
        }
        Ok(())
    }

    fn sign(&self) -> Result<SignedIdBlock, MeasureError> {
        let id = |id: Option<Hex<16>>| id.map_or([0; 16], |id| id.0);
        let (family_id, image_id) = (id(self.family_id), id(self.image_id));
        let policy = GuestPolicy(self.policy);
        let block = IdBlock::new(Measurement(self.digest.0), policy, family_id, image_id, self.guest_svn)
            .map_err(MeasureError::IdBlock)?;
        let id_key = read_key(&self.id_key)?;
        let author = self.author_key.as_deref().map(read_key).transpose()?;
        Ok(SignedIdBlock {
            id_block: STANDARD.encode(block.to_bytes()),
            id_auth: STANDARD.encode(id_auth(&block, &id_key, author.as_ref())),
            author_key_enabled: author.is_some(),
            id_key_digest: id_key.digest().to_string(),
            author_key_digest: author.map(|author| author.digest().to_string()),
        })
    }
}

/// Reads a file of at most `limit` bytes.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>, MeasureError> {
    let failed = |source| MeasureError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // One byte more tells a file of the limit from a longer one.
    let file = File::open(path).map_err(failed)?;
    file.take(limit as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() > limit {
        return Err(MeasureError::TooLong { path: path.to_owned(), limit });
    }
    Ok(bytes)
}

pub(crate) fn read_key(path: &Path) -> Result<PublisherKey, MeasureError> {
    let wrong = |source| MeasureError::Key { path: path.to_owned(), source };
    let bytes = Zeroizing::new(read(path, MAX_KEY)?);
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong(IdBlockError::NoPrivateKey))?;
    PublisherKey::from_pem(text).map_err(wrong)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), MeasureError> {
    let path = folder.join(name);
    let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&path, text));
    written.map_err(|source| MeasureError::Write { path, source })
}

/// A number whose bits matter: hexadecimal with `0x`, or decimal.
pub(crate) fn bits(text: &str) -> Result<u64, std::num::ParseIntError> {
    text.strip_prefix("0x").map_or_else(|| text.parse(), |digits| u64::from_str_radix(digits, 16))
}

/// Exactly `N` bytes in hexadecimal, with or without `0x`.
fn hex<const N: usize>(text: &str) -> Result<Hex<N>, HexError> {
    let bytes = from_hex(text)?;
    let found = bytes.len() * 2;
    bytes.try_into().map(Hex).map_err(|_| HexError::Length { expected: N * 2, found })
}
