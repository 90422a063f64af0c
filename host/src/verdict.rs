//! What `postern status` makes of a host's status: what is wrong, each with the code that the command ends with.

use crate::status::{HostStatus, Subject};
use serde::Serialize;
use std::fmt::{Display, Formatter, Result as Written};
use std::time::{Duration, SystemTime};

/// A host that runs writes its status more often than this, whatever happens.
const HANGS_AFTER: Duration = Duration::from_secs(60);

/// What kind of thing is wrong, by the number that `postern status` ends with; the lowest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "u8")]
#[repr(u8)]
pub enum Code {
    /// The host does not run.
    Absent = 3,
    /// The host runs, and has not written its status for a minute.
    Hangs = 4,
    /// The enclave does not answer.
    Enclave = 5,
    /// A node of a chain, or what one says of a pool manager, can't be relied on.
    Chain = 6,
    /// The wallet can't pay, or a transaction does not get on.
    Transaction = 7,
    /// Another member's host is not reached, an enclave was refused, or a pool does not get on.
    Members = 8,
    /// There are alerts: a person has to look at them.
    Alert = 9,
}

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        code as Self
    }
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Of which kind.
    pub code: Code,
    /// For people.
    pub reason: String,
}

/// A status, and what is wrong.
#[derive(Debug, Serialize)]
pub struct Verdict {
    /// As the host left it.
    #[serde(flatten)]
    status: HostStatus,
    /// Whether the host runs.
    running: bool,
    /// What is wrong, the worst first.
    findings: Vec<Finding>,
    /// What the command ends with: 0 if nothing is wrong.
    exit_code: u8,
}

impl Verdict {
    /// What is wrong at `now`, with a host that left this status and runs or does not.
    pub fn of(status: HostStatus, running: bool, now: SystemTime) -> Self {
        let mut findings = Vec::new();
        let mut find = |code, reason: String| findings.push(Finding { code, reason });
        let written = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(status.written_at));
        // A clock that was put back makes nothing old.
        let age = written.and_then(|written| now.duration_since(written).ok()).unwrap_or_default();
        if !running {
            find(Code::Absent, format!("the host is not running; what follows is {} old", ago(age)));
        } else if age > HANGS_AFTER {
            find(Code::Hangs, format!("the host hangs: it said this {} ago", ago(age)));
        }
        for trouble in &status.troubles {
            find(code_of(&trouble.subject), format!("{}: {}", trouble.subject, trouble.reason));
        }
        for refused in &status.refused {
            find(Code::Members, format!("the enclave of {} is refused", refused.member));
        }
        for name in &status.alerts {
            find(Code::Alert, format!("alerts/{name}.json"));
        }
        findings.sort_by_key(|finding| finding.code);
        let exit_code = findings.first().map_or(0, |finding| finding.code.into());
        Self { status, running, findings, exit_code }
    }

    /// What the command ends with.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

fn code_of(subject: &Subject) -> Code {
    match subject {
        Subject::Enclave => Code::Enclave,
        Subject::ExecutionNode(_) | Subject::BeaconNode(_) | Subject::Events(_) | Subject::Command(_) => {
            Code::Chain
        }
        Subject::Wallet | Subject::Transaction(_) | Subject::Exit(_) => Code::Transaction,
        Subject::Peer(_) | Subject::WrongExit(_) | Subject::Pool(_) => Code::Members,
    }
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut Formatter<'_>) -> Written {
        writeln!(f, "{}", self.status.describe())?;
        for Finding { code, reason } in &self.findings {
            writeln!(f, "WRONG ({}): {reason}", *code as u8)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{Refused, Trouble};
    use postern_shared::ids::MemberId;

    const NOW: u64 = 1_800_000_000;

    fn verdict(edit: impl FnOnce(&mut HostStatus), running: bool) -> Verdict {
        let mut status = HostStatus { written_at: NOW, ..HostStatus::default() };
        edit(&mut status);
        Verdict::of(status, running, SystemTime::UNIX_EPOCH + Duration::from_secs(NOW))
    }

    #[test]
    fn each_kind_of_trouble_has_its_code_and_its_line() {
        let trouble = |subject| Trouble { subject, since: NOW, reason: "a reason".to_owned() };
        let pool = postern_shared::ids::PoolId::new(1, postern_shared::ids::Address([1; 20]), 7);
        let with = |subject: Subject| verdict(|status| status.troubles.push(trouble(subject)), true);
        let name = || "http://node:1".to_owned();
        let refused =
            Refused { member: MemberId(2), cut_off: false, checks: Vec::new(), reasons: Vec::new() };
        let table = [
            (verdict(|_| {}, true), 0, ""),
            (verdict(|_| {}, false), 3, "not running; what follows is 0 s old"),
            (verdict(|status| status.written_at = NOW - 59, true), 0, ""),
            (verdict(|status| status.written_at = NOW - 61, true), 4, "hangs: it said this 61 s ago"),
            (verdict(|status| status.written_at = NOW + 86_400, true), 0, ""),
            (verdict(|status| status.written_at = NOW - 7_200, false), 3, "2 h old"),
            (with(Subject::Enclave), 5, "enclave: a reason"),
            (with(Subject::ExecutionNode(name())), 6, "execution node http://node:1: a reason"),
            (with(Subject::BeaconNode(name())), 6, "beacon node http://node:1: a reason"),
            (with(Subject::Wallet), 7, "wallet: a reason"),
            (with(Subject::Transaction("deposit-1".to_owned())), 7, "transaction deposit-1: a reason"),
            (with(Subject::Exit(pool)), 7, "exit of pool"),
            (with(Subject::Peer(MemberId(3))), 8, "host of member 3: a reason"),
            (with(Subject::WrongExit(MemberId(3))), 8, "exit from the host of member 3: a reason"),
            (with(Subject::Pool(pool)), 8, "a reason"),
            (verdict(|status| status.refused.push(refused), true), 8, "the enclave of member 2 is refused"),
            (
                verdict(|status| status.alerts.push("recovery-1".to_owned()), true),
                9,
                "alerts/recovery-1.json",
            ),
        ];
        for (verdict, code, line) in table {
            assert_eq!(verdict.exit_code(), code, "{verdict}");
            assert!(code == 0 || verdict.to_string().contains(&format!("WRONG ({code}): ")), "{verdict}");
            assert!(verdict.to_string().contains(line), "`{line}` is not in {verdict}");
            let json = serde_json::to_value(&verdict).unwrap();
            assert_eq!((&json["exit_code"], &json["member"]), (&code.into(), &0.into()));
            assert_eq!(json["findings"].as_array().unwrap().len(), usize::from(code != 0));
        }
    }

    #[test]
    fn the_worst_comes_first_and_counts() {
        let found = verdict(
            |status| {
                status.alerts.push("one".to_owned());
                let reason = "empty".to_owned();
                status.troubles.push(Trouble { subject: Subject::Wallet, since: NOW, reason });
            },
            false,
        );
        let codes: Vec<u8> = found.findings.iter().map(|finding| finding.code.into()).collect();
        assert_eq!((codes, found.exit_code()), (vec![3, 7, 9], 3));
    }
}
