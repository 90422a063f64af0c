//! The command line: `postern`.

use clap::{Parser, Subcommand};
use postern_host::attest::command::AttestCommand;
use postern_host::config::{Config, read_data_dir};
use postern_host::daemon::{DaemonError, commands};
use postern_host::image::ImageCommand;
use postern_host::manifest::command::{ManifestCommand, manifests};
use postern_host::output::{OutputError, say};
use postern_host::store::command::StoreCommand;
use postern_host::tx::TxCommand;
use postern_host::verdict::Verdict;
use postern_host::vm::VmCommand;
use postern_host::{daemon, presence, status, verify};
use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::mem::ManuallyDrop;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;
use tracing_subscriber::EnvFilter;

/// The guarded way out of a staked Ethereum validator.
#[derive(Parser)]
#[command(name = "postern", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve a member's enclave: relay its messages, watch the chains, send transactions.
    Run {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
    },
    /// Say where a member's host and enclave stand, and what is wrong.
    ///
    /// Ends with 0 if nothing is wrong, 1 if there is no status, and else with the lowest that applies: 3 the host does not run,
    /// 4 it hangs, 5 its enclave does not answer, 6 a node of a chain can't be relied on, 7 the wallet, a transaction or an exit does
    /// not get on, 8 another member or a pool holds things up, 9 there are alerts.
    Status {
        /// The host's configuration, TOML.
        #[arg(long)]
        config: PathBuf,
        /// Print the status file, JSON.
        #[arg(long)]
        json: bool,
    },
    /// Have a member's host read the events of all pool managers again.
    Rescan {
        /// The host's configuration, TOML.
        #[arg(long)]
        config: PathBuf,
        /// From this block on.
        #[arg(long, value_name = "BLOCK")]
        from: u64,
    },
    /// Look at attestation evidence.
    #[command(subcommand)]
    Attest(AttestCommand),
    /// Check transcripts of ceremonies and proofs of deposits offline, and against each other.
    Verify {
        /// Transcripts and proofs, JSON.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// A host's configuration: all must be of the manifest that it names, or of the epochs in its data directory.
        #[arg(long, value_name = "FILE", conflicts_with_all = ["manifest", "data_dir"])]
        config: Option<PathBuf>,
        /// The DAO's manifest: all must be of this one, or of the epochs after it.
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// The data directory with these epochs.
        #[arg(long, value_name = "DIR", requires = "manifest")]
        data_dir: Option<PathBuf>,
        /// Print one JSON array instead of lines.
        #[arg(long)]
        json: bool,
    },
    /// Look at manifests; change the DAO's, epoch by epoch.
    #[command(subcommand)]
    Manifest(ManifestCommand),
    /// Look at the transactions that a host sends; have one made again, or cancelled.
    #[command(subcommand)]
    Tx(TxCommand),
    /// Looks after what a host has stored.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Work out the launch digest of a confidential VM; sign its ID block.
    Measure(Box<postern_host::measure::command::MeasureArguments>),
    /// Make the image of the enclave's VM.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Start the enclave's VM.
    #[command(subcommand)]
    Vm(VmCommand),
    /// Watch a DAO take validators from deposit to exit, on embedded chains with simulated enclaves.
    #[cfg(feature = "devnet")]
    Demo(postern_host::demo::DemoArguments),
    /// A simulated enclave, which protects nothing.
    #[cfg(feature = "devnet")]
    #[command(hide = true)]
    SimulatedEnclave(postern_host::demo::SimulatedEnclaveArguments),
}

fn main() -> ExitCode {
    let filter =
        EnvFilter::try_from_env("POSTERN_LOG").unwrap_or_else(|_| EnvFilter::new("warn,postern_host=info"));
    let colours =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A log that can't be written, on a full disk say, ends nothing.
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
    log.log_internal_errors(false).init();
    match execute(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) if is_read_enough(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "postern: {}", one_line(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Whether all that is wrong is that nobody reads on.
fn is_read_enough(error: &(dyn Error + 'static)) -> bool {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut output = causes.filter_map(|cause| cause.downcast_ref::<OutputError>());
    output.next().is_some_and(OutputError::is_closed)
}

/// An error and its causes, each said once.
fn one_line(error: &dyn Error) -> String {
    let mut line = flatten(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = flatten(&error.to_string());
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

/// Leaves the quoted source out of an error about a TOML file (lines like `12 | …`); its position is said anyway.
fn flatten(text: &str) -> String {
    let is_quote = |line: &str| {
        line.split_once('|')
            .is_some_and(|(gutter, _)| gutter.trim().bytes().all(|byte| byte.is_ascii_digit()))
    };
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !is_quote(line));
    lines.collect::<Vec<_>>().join(": ")
}

/// Something was refused; what is wrong with it was printed.
#[derive(Debug)]
struct Refused(&'static str);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Refused {}

/// The status, for people or programs; what is wrong is said by the code too ([`postern_host::verdict::Code`]).
fn tell_status(config: &Path, json: bool) -> Result<ExitCode, Box<dyn Error>> {
    let data_dir = read_data_dir(config)?;
    let running = presence::is_there(&data_dir)?;
    let verdict = Verdict::of(status::read(&data_dir)?, running, SystemTime::now());
    let text = if json { format!("{}\n", serde_json::to_string(&verdict)?) } else { verdict.to_string() };
    say(format_args!("{text}"))?;
    Ok(ExitCode::from(verdict.exit_code()))
}

fn execute(command: Command) -> Result<ExitCode, Box<dyn Error>> {
    let done: Result<(), Box<dyn Error>> = match command {
        Command::Run { config } => serve(Config::read(&config)?),
        Command::Status { config, json } => return tell_status(&config, json),
        Command::Rescan { config, from } => {
            let told = commands::tell(&read_data_dir(&config)?, &commands::Command::Rescan { from })?;
            Ok(say(format_args!("{told}\n"))?)
        }
        Command::Attest(command) => {
            if runtime()?.block_on(command.execute())? {
                Ok(())
            } else {
                Err(Refused("the evidence is refused").into())
            }
        }
        Command::Verify { files, config, manifest, data_dir, json } => {
            let manifests = manifests(config.as_deref(), manifest.as_deref(), data_dir.as_deref())?;
            let expected: Vec<_> = manifests.iter().map(|manifest| manifest.hash()).collect();
            let verified = verify::verify_files(&files, &expected)?;
            if json {
                let claims: Vec<_> = verified.iter().map(|verified| &verified.claim).collect();
                say(format_args!("{}\n", serde_json::to_string(&claims)?))?;
            } else {
                for verified in &verified {
                    say(format_args!(
                        "{}: {}\n",
                        verified.path.display(),
                        verify::describe(&verified.claim)
                    ))?;
                }
                if verified.iter().any(|verified| verified.simulated) {
                    say(format_args!("The enclaves were SIMULATED: nothing was protected.\n"))?;
                }
            }
            Ok(())
        }
        Command::Manifest(command) => Ok(command.run()?),
        Command::Store(command) => Ok(command.run()?),
        Command::Tx(command) => Ok(say(format_args!("{}\n", command.run()?))?),
        Command::Measure(arguments) => Ok(arguments.run()?),
        Command::Image(command) => Ok(command.run()?),
        Command::Vm(command) => {
            if runtime()?.block_on(command.run())? {
                Ok(())
            } else {
                Err(Refused("peers would refuse a VM of this machine, or it can't start one").into())
            }
        }
        #[cfg(feature = "devnet")]
        Command::Demo(arguments) => Ok(runtime()?.block_on(postern_host::demo::run(arguments))?),
        #[cfg(feature = "devnet")]
        Command::SimulatedEnclave(arguments) => Ok(arguments.run()?),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Serves until the process is told to stop. Nothing needs to be tidied up: it may be killed at any moment.
fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    raise_descriptor_limit();
    // Not taken down before the process ends: a task that waits for its disk at that moment would go on without timers, and panic.
    let runtime = ManuallyDrop::new(runtime()?);
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            ended = daemon::run(config) => match ended {
                Err(error @ DaemonError::Again(_)) => {
                    tracing::info!(%error);
                    Err(restart().into())
                }
                ended => Ok(ended?),
            },
            _ = tokio::signal::ctrl_c() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    })
}

/// Every connection and file takes a descriptor. Peers' connections are bounded, but the soft limit that shells begin with may be
/// lower: as many as the system grants.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let granted = getrlimit(Resource::Nofile);
    let all = Rlimit { current: granted.maximum, ..granted };
    if let Err(error) = setrlimit(Resource::Nofile, all) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// This process as it was started, in the place of itself. What it holds open closes; it returns only if it fails.
fn restart() -> io::Error {
    let mut arguments = std::env::args_os();
    arguments.next();
    match std::env::current_exe() {
        Ok(program) => std::process::Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_with_its_position() {
        let error = "config.toml: TOML parse error at line 2, column 1\n   |\n 2 | x = 1\n   | ^\nunknown field `x`\n";
        let expected = "config.toml: TOML parse error at line 2, column 1: unknown field `x`";
        assert_eq!(flatten(error), expected);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
