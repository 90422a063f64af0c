//! `postern image`: makes what the enclave's VM is started from, and says what its launch digest will be.

use crate::config::{ConfigError, read_manifest};
use crate::measure::command::{MeasureError, Row, read_key};
use crate::measure::id_block::{IdBlock, IdBlockError, id_auth};
use crate::measure::policy::launch_policy;
use crate::measure::{CpuModel, Firmware, FirmwareError, KernelError, KernelHashes, Launch, VcpuError};
use crate::output::say;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postern_image::{ImageError, Inputs, Purpose, VCPUS, initramfs};
use postern_shared::ids::Measurement;
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// CPU models of QEMU's that an image is measured for, one for each register value that a vCPU can start with.
pub const CPU_MODELS: [&str; 4] = ["EPYC-v4", "EPYC-Milan", "EPYC-Genoa", "EPYC-Turin"];
/// `SEV_FEATURES`: SNPActive, and nothing else.
pub const GUEST_FEATURES: u64 = 1;

/// What a directory with an image holds.
pub mod files {
    /// The initramfs.
    pub const IMAGE: &str = "image.cpio";
    /// The kernel.
    pub const KERNEL: &str = "vmlinuz";
    /// The firmware.
    pub const FIRMWARE: &str = "firmware.fd";
    /// The kernel's command line.
    pub const COMMAND_LINE: &str = "cmdline";
    /// Launch digests, JSON.
    pub const MEASUREMENTS: &str = "measurements.json";
    /// The same, as a manifest lists them.
    pub const MANIFEST: &str = "manifest-fragment.toml";
    /// With the CPU model before it: QEMU's `id-block`.
    pub const ID_BLOCK: &str = "id-block.base64";
    /// With the CPU model before it: QEMU's `id-auth`.
    pub const ID_AUTH: &str = "id-auth.base64";
}

/// What only the debug image's kernel is told to write to.
const CONSOLE: &str = "console=ttyS0";

/// Builds the enclave as the image wants it, from the source folder.
const BUILD_INIT: &str = "enclave/image/init.sh";

/// Makes the image of the enclave's VM.
#[derive(Debug, clap::Subcommand)]
pub enum ImageCommand {
    /// Makes the image, and works out its launch digests: the same from the same sources, whoever does it.
    Build(BuildArguments),
}

/// Arguments of `postern image build`.
#[derive(Debug, clap::Args)]
pub struct BuildArguments {
    /// Where to put everything; made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Kernel and firmware, as `enclave/image/fetch.sh DIR` leaves them.
    #[arg(long, value_name = "DIR", default_value = "target/image-inputs")]
    inputs: PathBuf,
    /// The enclave, a static binary; built from the source folder, which must be the current one, unless given.
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Make the debug image instead, with a kernel that writes to the host's serial port: for a machine on which the image does
    /// not start, and never for use. `enclave/image/fetch.sh DIR debug` leaves that kernel.
    #[arg(long, conflicts_with = "id_key")]
    debug: bool,
    /// The id key, to sign an ID block for each CPU model: ECDSA P-384, PEM.
    #[arg(long, value_name = "PEM", requires = "author_key")]
    id_key: Option<PathBuf>,
    /// The author key, which signs the id key.
    #[arg(long, value_name = "PEM", requires = "id_key")]
    author_key: Option<PathBuf>,
    /// The manifest whose rules for the guest policy ID blocks are made for; without it, those of a manifest that says nothing.
    #[arg(long, value_name = "FILE", requires = "id_key")]
    manifest: Option<PathBuf>,
    /// The image's security version, in the ID block.
    #[arg(long, value_name = "N", default_value_t = 0, requires = "id_key")]
    guest_svn: u32,
}

/// Why there is no image.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// What was to be said could not be written.
    #[error("{0}")]
    Output(#[from] crate::output::OutputError),
    /// Something that it is made of.
    #[error("{0}; enclave/image/fetch.sh DIR gets it")]
    Inputs(#[from] ImageError),
    /// A file that can't be read or written.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What one of the two is for would be in doubt.
    #[error("{out} holds another kind of image; production's and the debug image want a folder each", out = out.display())]
    Mixed {
        /// The folder.
        out: PathBuf,
    },
    /// The enclave was not built.
    #[error("{BUILD_INIT} in the current folder: {0}")]
    Init(String),
    /// The firmware can't be measured.
    #[error("firmware: {0}")]
    Firmware(#[from] FirmwareError),
    /// Kernel and command line can't be measured.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The vCPUs can't be.
    #[error(transparent)]
    Vcpus(#[from] VcpuError),
    /// A key.
    #[error(transparent)]
    Key(#[from] MeasureError),
    /// The ID block.
    #[error(transparent)]
    IdBlock(#[from] IdBlockError),
    /// The manifest.
    #[error(transparent)]
    Manifest(#[from] ConfigError),
    /// A CPU model that `measure` does not know.
    #[error(transparent)]
    Model(#[from] crate::measure::UnknownCpuModel),
    /// The measurements can't be written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

impl ImageCommand {
    /// Makes it, and says what came of it.
    pub fn run(self) -> Result<(), BuildError> {
        let Self::Build(arguments) = self;
        arguments.build()
    }
}

impl BuildArguments {
    fn build(self) -> Result<(), BuildError> {
        let purpose = if self.debug { Purpose::Debug } else { Purpose::Production };
        apart(&self.out, purpose)?;
        let inputs = Inputs::read(&self.inputs, purpose)?;
        let init = self.init.map_or_else(build_init, Ok)?;
        let init = std::fs::read(&init).map_err(|source| BuildError::File { path: init, source })?;
        let image = initramfs(&init, &[]);
        let rows = measure(&inputs, &image)?;

        write_machine(&self.out, &inputs, &image)?;
        let write = |name: &str, bytes: &[u8]| write(&self.out, name, bytes);
        write(files::MEASUREMENTS, &serde_json::to_vec(&rows)?)?;
        let mut fragment = fragment(&rows, purpose);
        if let (Some(id_key), Some(author)) = (&self.id_key, &self.author_key) {
            let (id_key, author) = (read_key(id_key)?, read_key(author)?);
            // Peers that do not expect these keys refuse the guest.
            let (signs, certifies) = (id_key.digest(), author.digest());
            // Writing to a string does not fail.
            let _ = writeln!(fragment, "guest_svn = {}", self.guest_svn);
            let _ = writeln!(fragment, "id_keys = [\"0x{signs}\"]\nauthor_keys = [\"0x{certifies}\"]");
            let rules = self.manifest.as_deref().map(read_manifest).transpose()?;
            let policy =
                launch_policy(&rules.map(|manifest| manifest.attestation.guest_policy).unwrap_or_default());
            for (model, digest) in digests(&rows) {
                let block = IdBlock::new(digest, policy, [0; 16], [0; 16], self.guest_svn)?;
                let auth = id_auth(&block, &id_key, Some(&author));
                write(&format!("{model}.{}", files::ID_BLOCK), STANDARD.encode(block.to_bytes()).as_bytes())?;
                write(&format!("{model}.{}", files::ID_AUTH), STANDARD.encode(auth).as_bytes())?;
            }
        }
        write(files::MANIFEST, fragment.as_bytes())?;

        say(format_args!("enclave  {:>8} bytes  {}\n", init.len(), sha256(&init)))?;
        say(format_args!("image    {:>8} bytes  {}\n", image.len(), sha256(&image)))?;
        say(format_args!("launch digests, with {VCPUS} vCPU:\n"))?;
        for Row { cpu, digest, .. } in &rows {
            say(format_args!("  {cpu:<10}  {digest}\n"))?;
        }
        Ok(())
    }
}

/// Everything that a VM is started from.
pub(crate) fn write_machine(out: &Path, inputs: &Inputs, image: &[u8]) -> Result<(), BuildError> {
    std::fs::create_dir_all(out).map_err(|source| BuildError::File { path: out.to_owned(), source })?;
    write(out, files::IMAGE, image)?;
    write(out, files::KERNEL, &inputs.kernel)?;
    write(out, files::FIRMWARE, &inputs.firmware)?;
    write(out, files::COMMAND_LINE, inputs.purpose.command_line().as_bytes())
}

/// Whether a folder has no image yet, or one for the same purpose: its command line says which. That of production changes with
/// versions, that of the debug image always has a console.
fn apart(out: &Path, purpose: Purpose) -> Result<(), BuildError> {
    let path = out.join(files::COMMAND_LINE);
    match std::fs::read_to_string(&path) {
        Ok(found) if found.contains(CONSOLE) != (purpose == Purpose::Debug) => {
            Err(BuildError::Mixed { out: out.to_owned() })
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(BuildError::File { path, source }),
    }
}

fn write(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), BuildError> {
    let path = folder.join(name);
    std::fs::write(&path, bytes).map_err(|source| BuildError::File { path, source })
}

/// The launch digest with each CPU model.
fn measure(inputs: &Inputs, image: &[u8]) -> Result<Vec<Row>, BuildError> {
    let firmware = Firmware::parse(inputs.firmware.clone())?;
    let hashes = KernelHashes::new(&inputs.kernel, image, &inputs.purpose.command_line())?;
    let launch = Launch::new(&firmware, Some(&hashes))?;
    let row = |model: &str| Ok(Row::new(&launch, VCPUS, model.parse::<CpuModel>()?, GUEST_FEATURES)?);
    CPU_MODELS.into_iter().map(row).collect()
}

fn digests(rows: &[Row]) -> impl Iterator<Item = (&str, Measurement)> {
    rows.iter().filter_map(|row| {
        let digest = hex::decode(&row.digest).ok()?.try_into().ok()?;
        Some((row.cpu.as_str(), Measurement(digest)))
    })
}

/// Above the lines of the debug image.
const DEBUG_WARNING: &str = "# For debugging. A VM of this image writes to its host's serial port, on a panic the contents of registers: \
    no manifest\n# in production may list it.\n";

/// What a manifest has under `[attestation]`.
fn fragment(rows: &[Row], purpose: Purpose) -> String {
    // In the names too, which are all that is left of it where somebody has copied the lines.
    let (warning, name) = match purpose {
        Purpose::Production => ("", ""),
        Purpose::Debug => (DEBUG_WARNING, "DEBUG "),
    };
    let mut text = format!("{warning}measurements = [\n");
    for Row { cpu, digest, .. } in rows {
        // Writing to a string does not fail.
        let _ = writeln!(text, "    {{ name = \"{name}{cpu}\", digest = \"0x{digest}\" }},");
    }
    text + "]\n"
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The script says last where the binary is.
fn build_init() -> Result<PathBuf, BuildError> {
    let run = Command::new(Path::new(".").join(BUILD_INIT)).stderr(Stdio::inherit()).output();
    let run = run.map_err(|error| BuildError::Init(error.to_string()))?;
    let path = String::from_utf8_lossy(&run.stdout).trim().to_owned();
    if run.status.success() { Ok(path.into()) } else { Err(BuildError::Init(run.status.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_what_manifests_list() {
        let row = |cpu: &str, byte: &str| Row {
            vcpus: 1,
            cpu: cpu.to_owned(),
            guest_features: 1,
            digest: byte.repeat(48),
        };
        let rows = [row("EPYC-v4", "01"), row("EPYC-Genoa", "02")];
        #[derive(serde::Deserialize)]
        struct Rules {
            measurements: Vec<postern_shared::policy::AllowedMeasurement>,
        }
        for purpose in [Purpose::Production, Purpose::Debug] {
            let rules: Rules = toml::from_str(&fragment(&rows, purpose)).unwrap();
            let digests: Vec<Measurement> = rules.measurements.iter().map(|listed| listed.digest).collect();
            assert_eq!(digests, [Measurement([1; 48]), Measurement([2; 48])]);
            let warns = rules.measurements.iter().all(|listed| listed.name.starts_with("DEBUG "));
            assert_eq!(warns, purpose == Purpose::Debug, "the name says so, wherever it is copied to");
        }
        let text = fragment(&rows, Purpose::Debug);
        assert!(
            text.starts_with("# For debugging.") && text.contains("no manifest\n# in production may list it")
        );
    }

    #[test]
    fn an_image_for_use_and_one_for_debugging_never_share_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |purpose| match apart(folder.path(), purpose) {
            Ok(()) => false,
            Err(BuildError::Mixed { .. }) => true,
            Err(other) => panic!("{other}"),
        };
        assert!(!refused(Purpose::Production) && !refused(Purpose::Debug), "an empty folder is anybody's");
        for (here, other) in [(Purpose::Production, Purpose::Debug), (Purpose::Debug, Purpose::Production)] {
            std::fs::write(folder.path().join(files::COMMAND_LINE), here.command_line()).unwrap();
            assert!(!refused(here) && refused(other), "{here:?}");
        }
    }

    #[test]
    fn models_are_those_that_can_be_measured_and_differ() {
        for model in CPU_MODELS {
            assert_eq!(model.parse::<CpuModel>().unwrap().to_string(), model);
        }
    }
}
