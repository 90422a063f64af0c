//! What is in a manifest, a proposal or a kept epoch.

use super::proposal::Proposal;
use postern_shared::epoch::{SignedEpoch, quorum};
use postern_shared::ids::{ManifestHash, MemberId};
use postern_shared::manifest::{Contracts, Manifest, Member, Thresholds};
use postern_shared::policy::AllowedMeasurement;
use serde::Serialize;
use std::fmt;

/// What `postern manifest show` says.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    name: String,
    epoch: u64,
    hash: ManifestHash,
    genesis: ManifestHash,
    predecessor: Option<ManifestHash>,
    leader: MemberId,
    contracts: Contracts,
    thresholds: Thresholds,
    agreement: ShownAgreement,
    measurements: Vec<ShownMeasurement>,
    members: Vec<Member>,
    /// Only where there are signatures.
    #[serde(skip_serializing_if = "Option::is_none")]
    signatures: Option<Signatures>,
}

/// What the quorum comes to.
#[derive(Debug, Serialize)]
struct ShownAgreement {
    quorum: u16,
    automatic_return: bool,
    /// Broken enclaves for which everything holds that members agree on.
    broken: usize,
    /// Members that may be away while nobody restarts, and while one does.
    away: usize,
    away_at_return: usize,
    /// The quorum by which agreement would hold for as many broken enclaves as secrecy does, and whether there can be one.
    for_thresholds: usize,
    possible: bool,
}

impl ShownAgreement {
    fn of(manifest: &Manifest) -> Self {
        let (quorum, wanted) = (manifest.quorum(), manifest.quorum_for_thresholds());
        Self {
            quorum: manifest.agreement.quorum,
            automatic_return: manifest.agreement.automatic_return,
            broken: quorum.broken(),
            away: quorum.away(),
            away_at_return: quorum.away_at_return(),
            for_thresholds: wanted,
            possible: wanted < manifest.members.len(),
        }
    }
}

impl fmt::Display for ShownAgreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { quorum, broken, away, away_at_return, for_thresholds, .. } = self;
        writeln!(
            f,
            "agreement    {quorum} members agree; what they agree on holds for {broken} broken enclaves"
        )?;
        writeln!(f, "             {away} may be away, {away_at_return} while one restarts")?;
        if *for_thresholds > usize::from(*quorum) {
            let how = if self.possible { "needs" } else { "would need" };
            writeln!(
                f,
                "             for as many as the thresholds are about it {how} a quorum of {for_thresholds}"
            )?;
        }
        if self.automatic_return {
            writeln!(
                f,
                "             automatic return: half of all hosts and one more can take everything back"
            )?;
        }
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct ShownMeasurement {
    #[serde(flatten)]
    listed: AllowedMeasurement,
    in_force: bool,
}

/// Who signed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum Signatures {
    /// They were checked.
    Checked {
        changes: Vec<String>,
        signed: Vec<MemberId>,
        missing: Vec<MemberId>,
        needed: usize,
        enough: bool,
    },
    /// The manifest before it is not known, so nobody knows whose they are.
    Unchecked { claimed: Vec<MemberId> },
}

impl Shown {
    pub(super) fn manifest(manifest: &Manifest) -> Self {
        let in_force = |listed: &AllowedMeasurement| {
            manifest.attestation.measurements_at(manifest.epoch).any(|other| other.digest == listed.digest)
        };
        let measurements = manifest.attestation.measurements.iter();
        Self {
            name: manifest.name.clone(),
            epoch: manifest.epoch,
            hash: manifest.hash(),
            genesis: manifest.genesis(),
            predecessor: manifest.history.map(|history| history.predecessor),
            leader: manifest.leader,
            contracts: manifest.contracts.clone(),
            thresholds: manifest.thresholds,
            agreement: ShownAgreement::of(manifest),
            measurements: measurements
                .map(|listed| ShownMeasurement { in_force: in_force(listed), listed: listed.clone() })
                .collect(),
            members: manifest.members.clone(),
            signatures: None,
        }
    }

    pub(super) fn proposal(proposal: &Proposal) -> Self {
        let needed = quorum(&proposal.predecessor);
        let signatures = Signatures::Checked {
            changes: proposal.message.changes.lines().map(str::to_owned).collect(),
            signed: proposal.signers.clone(),
            missing: proposal.missing(),
            needed,
            enough: proposal.signers.len() >= needed,
        };
        Self { signatures: Some(signatures), ..Self::manifest(&proposal.manifest) }
    }

    pub(super) fn unchecked(epoch: &SignedEpoch, manifest: &Manifest) -> Self {
        let claimed = epoch.signatures.iter().map(|signature| signature.member).collect();
        Self { signatures: Some(Signatures::Unchecked { claimed }), ..Self::manifest(manifest) }
    }
}

struct Members<'a>(&'a [MemberId]);

impl fmt::Display for Members<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nobody");
        }
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, epoch {}", self.name, self.epoch)?;
        writeln!(f, "hash         {}", self.hash)?;
        writeln!(f, "genesis      {}", self.genesis)?;
        if let Some(predecessor) = self.predecessor {
            writeln!(f, "predecessor  {predecessor}")?;
        }
        let Contracts { pool_manager, pool_code, start_block, deposit } = &self.contracts;
        writeln!(f, "pool manager {pool_manager}, from block {start_block}")?;
        writeln!(f, "pool code    {pool_code}")?;
        writeln!(f, "deposits to  {deposit}")?;
        let Thresholds { operator, guardian, proof } = self.thresholds;
        writeln!(f, "thresholds   {operator} operators, {guardian} guardians, {proof} enclaves prove")?;
        write!(f, "{}", self.agreement)?;
        writeln!(f, "leader       {}", self.leader)?;
        for ShownMeasurement { listed, in_force } in &self.measurements {
            let until = listed.until_epoch.map_or(String::new(), |last| format!(" until {last}"));
            let state = if *in_force { "" } else { ", not in force" };
            writeln!(
                f,
                "measurement  {}: {}, from epoch {}{until}{state}",
                listed.name, listed.digest, listed.from_epoch
            )?;
        }
        for member in &self.members {
            let role = match (member.operator, member.guardian) {
                (true, true) => "operator and guardian",
                (true, false) => "operator",
                _ => "guardian",
            };
            let machine =
                if member.machine == 0 { String::new() } else { format!(", machine {}", member.machine) };
            writeln!(
                f,
                "{:<12} {}: {role}, governance wallet {}, wallet {}{machine}",
                member.id.to_string(),
                member.name,
                member.governance,
                member.wallet
            )?;
            if let Some(keys) = member.enclave {
                let fingerprint = keys.identity(member.id, member.machine).fingerprint();
                writeln!(f, "             enclave {fingerprint}")?;
            }
        }
        match &self.signatures {
            None => Ok(()),
            Some(Signatures::Checked { changes, signed, missing, needed, enough }) => {
                for change in changes {
                    writeln!(f, "change       {change}")?;
                }
                writeln!(f, "signed       {}", Members(signed))?;
                writeln!(f, "missing      {}", Members(missing))?;
                let verdict = if *enough { "enough" } else { "not enough" };
                writeln!(f, "quorum       {} of {needed} needed: {verdict}", signed.len())
            }
            Some(Signatures::Unchecked { claimed }) => {
                writeln!(
                    f,
                    "signed       NOT CHECKED, said to be {}: --manifest or --config is needed",
                    Members(claimed)
                )
            }
        }
    }
}
