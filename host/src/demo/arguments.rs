//! The demo's command line.

use super::DemoError;
use postern_simulation::Misbehaviour;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// More members would only be slow: each is two processes.
const MAX_MEMBERS: u16 = 30;
/// Fewer make no quorum: `Quorum`.
const MIN_MEMBERS: u16 = 3;
/// More pools would only be slow.
const MAX_POOLS: u32 = 256;

/// A whole DAO on this machine: chains, simulated enclaves and hosts; from stake to payout.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArguments {
    /// Members of the DAO, each with an enclave and a host.
    #[arg(long, default_value_t = 5)]
    pub members: u16,
    /// Operators that must sign together.
    #[arg(long, default_value_t = 3)]
    pub operator_threshold: u16,
    /// Guardians that must release together.
    #[arg(long, default_value_t = 3)]
    pub guardian_threshold: u16,
    /// Pools of 32 ETH to take from stake to payout.
    #[arg(long, default_value_t = 1)]
    pub pools: u32,
    /// Where to put everything; must be empty or not there. A fresh temporary directory unless given.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Leave everything running at the end, until Ctrl-C.
    #[arg(long)]
    pub keep: bool,
    /// Print the result as one JSON object, the last line on standard output.
    #[arg(long)]
    pub json: bool,
    /// Length of a slot of the embedded chains, in milliseconds.
    #[arg(long, default_value_t = 200, value_name = "MS")]
    pub slot_ms: u64,
    /// Seconds that any one step may take.
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    pub step_timeout: u64,
    /// Let a member's machine lie to the others about itself, as in `5=vmpl-1`: they go on without it.
    #[arg(long, value_name = "MEMBER=HOW")]
    pub liar: Option<Liar>,
    /// Leave a member's host without ether for fees, the leader's (1) for instance: others make its calls.
    #[arg(long, value_name = "MEMBER")]
    pub poor: Option<u16>,
    /// Let the hosts keep their state in this PostgreSQL database, each in a schema that stays there, and not in files.
    #[arg(long, value_name = "URL")]
    pub postgres: Option<String>,
    /// Run a member's simulated enclave in an emulated VM, with the enclave's own kernel and set-up.
    #[arg(long, value_name = "MEMBER", requires = "vm_init")]
    pub vm: Option<u16>,
    /// The simulated enclave for that VM: what `enclave/image/init.sh postern-simulation postern-simulated-vm` builds.
    #[arg(long, value_name = "FILE", requires = "vm")]
    pub vm_init: Option<PathBuf>,
    /// The rest of that VM: what `enclave/image/fetch.sh` got.
    #[arg(long, value_name = "DIR", default_value = "target/image-inputs", requires = "vm")]
    pub vm_inputs: PathBuf,
    /// Kill this many random hosts and enclaves (`kill -9`) on the way, and start each again at once.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub chaos_kills: u32,
    /// Who is killed, and when.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub chaos_seed: u64,
    /// How the demo starts its own children: process id of the demo.
    #[arg(long, hide = true, requires = "command")]
    pub(super) child_of: Option<u32>,
    /// The child's arguments.
    #[arg(last = true, hide = true)]
    pub(super) command: Vec<OsString>,
}

/// A member whose machine lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liar {
    /// Which.
    pub member: u16,
    /// How.
    pub how: Misbehaviour,
}

impl std::str::FromStr for Liar {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (member, how) = text.split_once('=').ok_or("not of the form MEMBER=HOW")?;
        let member = member.parse().map_err(|_| format!("`{member}` is no member's number"))?;
        let how = Misbehaviour::named(how).ok_or_else(|| {
            let known = Misbehaviour::ALL.map(|one| one.name()).join(", ");
            format!("`{how}` is none of {known}")
        })?;
        Ok(Self { member, how })
    }
}

impl Default for DemoArguments {
    /// As the command line without any flag.
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Defaults {
            #[command(flatten)]
            arguments: DemoArguments,
        }
        <Defaults as clap::Parser>::parse_from(["demo"]).arguments
    }
}

impl DemoArguments {
    /// Checks what the command line's grammar can't.
    pub fn validate(&self) -> Result<(), DemoError> {
        if !(MIN_MEMBERS..=MAX_MEMBERS).contains(&self.members) {
            return flag("members", self.members, format!("{MIN_MEMBERS} to {MAX_MEMBERS} wanted"));
        }
        for (name, threshold) in
            [("operator-threshold", self.operator_threshold), ("guardian-threshold", self.guardian_threshold)]
        {
            if threshold < 2 {
                return flag(name, threshold, "at least 2 wanted: one alone would hold the secret");
            }
            if threshold > self.members {
                return flag(name, threshold, format!("there are only {} members", self.members));
            }
        }
        if !(1..=MAX_POOLS).contains(&self.pools) {
            return flag("pools", self.pools, format!("1 to {MAX_POOLS} wanted"));
        }
        if !(20..=12_000).contains(&self.slot_ms) {
            return flag("slot-ms", self.slot_ms, "20 to 12000 wanted");
        }
        if let Some(liar) = self.liar
            && !(2..=self.members).contains(&liar.member)
        {
            // Members go on without anybody but the leader, who collects the exit's shares.
            return flag("liar", liar.member, format!("2 to {} wanted", self.members));
        }
        for (name, member) in [("vm", self.vm), ("poor", self.poor)] {
            if let Some(member) = member
                && !(1..=self.members).contains(&member)
            {
                return flag(name, member, format!("1 to {} wanted", self.members));
            }
        }
        if self.step_timeout == 0 {
            return flag("step-timeout", 0, "at least 1 wanted");
        }
        Ok(())
    }

    /// The data directory, made and empty.
    pub(super) fn make_data_dir(&self) -> Result<PathBuf, DemoError> {
        let Some(path) = &self.data_dir else { return fresh_directory() };
        let file = |source| DemoError::File { path: path.clone(), source };
        std::fs::create_dir_all(path).map_err(file)?;
        if std::fs::read_dir(path).map_err(file)?.next().is_some() {
            return flag("data-dir", path.display(), "the directory is not empty");
        }
        std::path::absolute(path).map_err(file)
    }

    pub(super) fn slot(&self) -> Duration {
        Duration::from_millis(self.slot_ms)
    }

    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.step_timeout)
    }
}

fn fresh_directory() -> Result<PathBuf, DemoError> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| DemoError::Randomness(error.to_string()))?;
    let path = std::env::temp_dir().join(format!("postern-demo-{}", hex::encode(random)));
    std::fs::create_dir(&path).map_err(|source| DemoError::File { path: path.clone(), source })?;
    Ok(path)
}

fn flag<T>(
    flag: &'static str,
    value: impl std::fmt::Display,
    reason: impl Into<String>,
) -> Result<T, DemoError> {
    Err(DemoError::Flag { flag, value: value.to_string(), reason: reason.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(clap::Parser)]
    struct Command {
        #[command(flatten)]
        arguments: DemoArguments,
    }

    fn parse(words: &[&str]) -> DemoArguments {
        Command::try_parse_from(["demo"].iter().chain(words)).unwrap().arguments
    }

    #[test]
    fn the_defaults_are_valid() {
        parse(&[]).validate().unwrap();
    }

    #[test]
    fn impossible_flags_are_named() {
        for (words, message) in [
            (["--members", "2"], "--members 2: 3 to 30 wanted"),
            (["--operator-threshold", "6"], "--operator-threshold 6: there are only 5 members"),
            (
                ["--guardian-threshold", "1"],
                "--guardian-threshold 1: at least 2 wanted: one alone would hold the secret",
            ),
            (["--pools", "0"], "--pools 0: 1 to 256 wanted"),
            (["--slot-ms", "1"], "--slot-ms 1: 20 to 12000 wanted"),
        ] {
            assert_eq!(parse(&words).validate().unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn a_directory_with_something_in_it_is_refused() {
        let directory = fresh_directory().unwrap();
        let arguments = DemoArguments { data_dir: Some(directory.clone()), ..parse(&[]) };
        assert_eq!(arguments.make_data_dir().unwrap(), directory);
        std::fs::write(directory.join("x"), "y").unwrap();
        let error = arguments.make_data_dir().unwrap_err();
        std::fs::remove_dir_all(directory).unwrap();
        assert!(matches!(error, DemoError::Flag { flag: "data-dir", .. }), "{error}");
    }

    #[test]
    fn a_child_gets_its_arguments_untouched() {
        let arguments = parse(&["--child-of", "7", "--", "run", "--config", "file"]);
        assert_eq!(arguments.child_of, Some(7));
        assert_eq!(arguments.command, ["run", "--config", "file"]);
    }
}
