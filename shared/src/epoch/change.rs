//! What an epoch may change, and what it may not.
//!
//! Every structure is taken apart field by field, so that a field which the manifest gains one day has to be thought of
//! here before anything compiles.

use super::{EpochError, rules};
use crate::identity::Identity;
use crate::ids::{Address, ChipId, Digest, ManifestHash, Measurement, MemberId};
use crate::manifest::{Agreement, Contracts, Cut, History, HostKey, Manifest, Member, Resumed, Thresholds};
use crate::policy::AllowedMeasurement;
use crate::witness::{Ballot, Place};
use alloc::{format, string::String, vec::Vec};
use core::fmt;

/// One thing that an epoch changes. Its text is a line that goes into wallets' signatures: changing a word of it makes
/// signatures of the past invalid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The DAO gets another name.
    Name(String),
    /// Pools are taken from another contract.
    PoolManager {
        /// Which.
        to: Address,
        /// What it creates pools by.
        pool_code: Digest,
        /// Where its events begin.
        start_block: u64,
    },
    /// Another leads.
    Leader(MemberId),
    /// Another number of operators must agree.
    OperatorThreshold {
        /// So far.
        from: u16,
        /// From now on.
        to: u16,
    },
    /// Another number of guardians must agree.
    GuardianThreshold {
        /// So far.
        from: u16,
        /// From now on.
        to: u16,
    },
    /// Another number of enclaves must prove something to the pool manager.
    ProofThreshold {
        /// So far.
        from: u16,
        /// From now on.
        to: u16,
    },
    /// Another number of members must agree.
    Quorum {
        /// So far.
        from: u16,
        /// From now on.
        to: u16,
    },
    /// Whether all together find back after a total loss of power.
    AutomaticReturn(bool),
    /// An enclave may act again, from this state.
    Resumed(Resumed),
    /// Another enclave image may take part.
    MeasurementAdded(AllowedMeasurement),
    /// An enclave image may no longer take part, for ever.
    MeasurementRetired {
        /// Its name.
        name: String,
        /// Its digest.
        digest: Measurement,
        /// The last epoch in which it may.
        until_epoch: u64,
    },
    /// A rule of attestation says something else.
    Rule {
        /// Which, as in TOML.
        field: String,
        /// What it says.
        to: String,
    },
    /// Somebody joins.
    MemberAdded(Member),
    /// A member's enclave is gone for good; another is admitted in its place.
    MachineReplaced {
        /// Whose.
        member: MemberId,
        /// The new one's number.
        machine: u32,
    },
    /// This is a member's enclave, and no other.
    Enclave(Identity),
    /// A member's enclave runs on one of other chips.
    Chips {
        /// Whose.
        member: MemberId,
        /// All of them.
        chips: Vec<ChipId>,
    },
    /// A member gets another name.
    MemberName {
        /// Whose.
        member: MemberId,
        /// The new one.
        to: String,
    },
    /// A member governs with another wallet.
    Governance {
        /// Whose.
        member: MemberId,
        /// The new one.
        to: Address,
    },
    /// A member pays with another wallet.
    Wallet {
        /// Whose.
        member: MemberId,
        /// The new one.
        to: Address,
    },
    /// A member's host has another key.
    HostKey {
        /// Whose.
        member: MemberId,
        /// The new one.
        to: HostKey,
    },
    /// A member has other roles.
    Roles {
        /// Whose.
        member: MemberId,
        /// Whether it holds shares of keys.
        operator: bool,
        /// Whether it holds shares of exits.
        guardian: bool,
    },
}

/// A name between quotes, in characters that every wallet shows as they are. The manifest's names are anybody's text:
/// letters that look alike and writing that turns around are spelt out.
pub(super) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for character in self.0.chars() {
            match character {
                '"' | '\\' => write!(f, "\\{character}")?,
                ' '..='~' => write!(f, "{character}")?,
                other => write!(f, "\\u{{{:x}}}", u32::from(other))?,
            }
        }
        f.write_str("\"")
    }
}

/// The begin of something long: too much of it to be matched by trying.
pub(super) struct Begin<'a>(pub &'a [u8]);

impl fmt::Display for Begin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(12).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("..")
    }
}

fn roles(operator: bool, guardian: bool) -> &'static str {
    match (operator, guardian) {
        (true, true) => "operator and guardian",
        (true, false) => "operator only",
        (false, true) => "guardian only",
        (false, false) => "no role",
    }
}

struct Chips<'a>(&'a [ChipId]);

impl fmt::Display for Chips<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("any");
        }
        for (position, chip) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            // Of some product lines, only the first eight bytes tell chips apart.
            write!(f, "{comma}{}", Begin(&chip.0))?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(to) => write!(f, "DAO's name: {}", Quoted(to)),
            Self::PoolManager { to, pool_code, start_block } => {
                let code = Begin(&pool_code.0);
                write!(f, "pool manager: {to}, pools of code {code}, from block {start_block}")
            }
            Self::Leader(to) => write!(f, "leader: {to}"),
            Self::OperatorThreshold { from, to } => write!(f, "operator threshold: {from} -> {to}"),
            Self::GuardianThreshold { from, to } => write!(f, "guardian threshold: {from} -> {to}"),
            Self::ProofThreshold { from, to } => write!(f, "proof threshold: {from} -> {to}"),
            Self::Quorum { from, to } => write!(f, "agreement quorum: {from} -> {to}"),
            Self::AutomaticReturn(true) => f.write_str("agreement.automatic_return: on (LAXER)"),
            Self::AutomaticReturn(false) => f.write_str("agreement.automatic_return: off"),
            Self::Resumed(Resumed { member, ballot, place: Place { log, head } }) => {
                let Ballot { machine: _, era: _, incarnation, nonce } = ballot;
                let (log, digest, nonce) = (Begin(&log.0), Begin(&head.digest.0), Begin(&nonce.0));
                write!(f, "{member}: acts again from record {} ({digest}) of log {log}", head.number)?;
                write!(f, ", as incarnation {incarnation}, {nonce}")
            }
            Self::MeasurementAdded(AllowedMeasurement { name, digest, from_epoch, until_epoch }) => {
                write!(f, "new measurement {}: {}, from epoch {from_epoch}", Quoted(name), Begin(&digest.0))?;
                until_epoch.map_or(Ok(()), |last| write!(f, " until {last}"))
            }
            Self::MeasurementRetired { name, digest, until_epoch } => {
                write!(f, "measurement {}: {}, until epoch {until_epoch}", Quoted(name), Begin(&digest.0))
            }
            Self::Rule { field, to } => write!(f, "attestation.{field}: {to}"),
            Self::MemberAdded(Member {
                id,
                name,
                wallet,
                governance,
                host_key,
                machine: _,
                enclave: _,
                chip_ids,
                operator,
                guardian,
            }) => {
                let (name, key, chips) = (Quoted(name), Begin(&host_key.0), Chips(chip_ids));
                let roles = roles(*operator, *guardian);
                write!(f, "new {id} {name}: {roles}, governance wallet {governance}, wallet {wallet}, ")?;
                write!(f, "host key {key}, chips {chips}")
            }
            Self::MachineReplaced { member, machine } => {
                write!(f, "{member}: machine lost, replaced by number {machine}")
            }
            Self::Enclave(identity) => {
                write!(f, "{}: enclave {}", identity.member, identity.fingerprint())
            }
            Self::Chips { member, chips } => write!(f, "{member}: chips {}", Chips(chips)),
            Self::MemberName { member, to } => write!(f, "{member}: name {}", Quoted(to)),
            Self::Governance { member, to } => write!(f, "{member}: governance wallet {to}"),
            Self::Wallet { member, to } => write!(f, "{member}: wallet {to}"),
            Self::HostKey { member, to } => write!(f, "{member}: host key {}", Begin(&to.0)),
            Self::Roles { member, operator, guardian } => {
                write!(f, "{member}: {}", roles(*operator, *guardian))
            }
        }
    }
}

/// What `new` changes in `old`; refuses what may not follow.
pub fn changes(old: &Manifest, new: &Manifest) -> Result<Vec<Change>, EpochError> {
    new.validate()?;
    // The version is of the format, and both are of the only one there is.
    let Manifest {
        version: _,
        name,
        epoch,
        leader,
        history,
        network,
        contracts: Contracts { pool_manager, pool_code, start_block, deposit },
        thresholds: Thresholds { operator, guardian, proof },
        agreement: Agreement { quorum, automatic_return, cut },
        attestation,
        members,
    } = new;
    check_place(old, *epoch, history.as_ref())?;
    let same_manager = *pool_manager == old.contracts.pool_manager;
    for (field, same) in [
        ("network", *network == old.network),
        ("contracts.deposit", *deposit == old.contracts.deposit),
        (
            "contracts.pool_code without the pool manager",
            *pool_code == old.contracts.pool_code || !same_manager,
        ),
        // A wrong one needs no correction: too early a block costs hosts time only; for too late a one they don't wait, and events before
        // what they read they find by the contract's state.
        (
            "contracts.start_block without the pool manager",
            *start_block == old.contracts.start_block || !same_manager,
        ),
        ("attestation.trust", attestation.trust == old.attestation.trust),
    ] {
        if !same {
            return Err(EpochError::Fixed(field));
        }
    }
    let mut found = Vec::new();
    if *name != old.name {
        found.push(Change::Name(name.clone()));
    }
    if !same_manager {
        let (to, pool_code, start_block) = (*pool_manager, *pool_code, *start_block);
        found.push(Change::PoolManager { to, pool_code, start_block });
    }
    if *leader != old.leader {
        found.push(Change::Leader(*leader));
    }
    let before = old.thresholds;
    if *operator != before.operator {
        found.push(Change::OperatorThreshold { from: before.operator, to: *operator });
    }
    if *guardian != before.guardian {
        found.push(Change::GuardianThreshold { from: before.guardian, to: *guardian });
    }
    if *proof != before.proof {
        found.push(Change::ProofThreshold { from: before.proof, to: *proof });
    }
    if *quorum != old.agreement.quorum {
        found.push(Change::Quorum { from: old.agreement.quorum, to: *quorum });
    }
    if *automatic_return != old.agreement.automatic_return {
        found.push(Change::AutomaticReturn(*automatic_return));
    }
    compare_cuts(old, new, cut.as_ref(), &mut found)?;
    measurements(&old.attestation.measurements, &attestation.measurements, *epoch, &mut found)?;
    rules::compare(&old.attestation, attestation, &mut found)?;
    compare_members(&old.members, members, &mut found)?;
    if found.is_empty() { Err(EpochError::NoChange) } else { Ok(found) }
}

/// A cut stays until the next one, which names every member whose machine is not replaced with it.
fn compare_cuts(
    old: &Manifest,
    new: &Manifest,
    cut: Option<&Cut>,
    found: &mut Vec<Change>,
) -> Result<(), EpochError> {
    if cut == old.agreement.cut.as_ref() {
        return Ok(());
    }
    let made = cut.filter(|cut| cut.epoch == new.epoch && old.is_founded());
    let Some(Cut { epoch, members }) = made else {
        return Err(EpochError::Fixed("agreement.cut"));
    };
    for Member { id, machine, .. } in &new.members {
        let before = old.member(*id).filter(|before| old.is_founded() && before.machine == *machine);
        let listed = members.iter().find(|resumed| resumed.member == *id);
        let is_current =
            |resumed: &Resumed| (resumed.ballot.machine, resumed.ballot.era) == (*machine, old.era());
        if before.is_some() != listed.is_some() || !listed.is_none_or(is_current) {
            return Err(EpochError::Cut { epoch: *epoch, member: *id });
        }
    }
    found.extend(members.iter().copied().map(Change::Resumed));
    Ok(())
}

fn check_place(old: &Manifest, epoch: u64, history: Option<&History>) -> Result<(), EpochError> {
    // No epoch follows the last number there is.
    let expected = old.epoch.saturating_add(1);
    if epoch != expected || epoch == old.epoch {
        return Err(EpochError::Epoch { expected, found: epoch });
    }
    let nothing = History { genesis: ManifestHash([0; 32]), predecessor: ManifestHash([0; 32]) };
    let found = *history.unwrap_or(&nothing);
    let History { genesis, predecessor } = History { genesis: old.genesis(), predecessor: old.hash() };
    if found.genesis != genesis {
        return Err(EpochError::Genesis { expected: genesis, found: found.genesis });
    }
    if found.predecessor != predecessor {
        return Err(EpochError::Predecessor { expected: predecessor, found: found.predecessor });
    }
    Ok(())
}

/// Entries stay for ever, so that an image which was retired can't come back under another name.
fn measurements(
    old: &[AllowedMeasurement],
    new: &[AllowedMeasurement],
    epoch: u64,
    found: &mut Vec<Change>,
) -> Result<(), EpochError> {
    for before in old {
        let Some(after) = new.iter().find(|listed| listed.digest == before.digest) else {
            return Err(EpochError::MeasurementRemoved(before.name.clone()));
        };
        let AllowedMeasurement { name, digest, from_epoch, until_epoch } = after;
        let altered = |field| Err(EpochError::MeasurementAltered { name: before.name.clone(), field });
        if *name != before.name {
            return altered("name");
        }
        if *from_epoch != before.from_epoch {
            return altered("from_epoch");
        }
        match (before.until_epoch, *until_epoch) {
            (before, after) if before == after => {}
            // Also from `Some` to `None`: what has an end keeps it.
            (Some(last), None) => return Err(comes_back(name, last)),
            (Some(last), Some(until)) if until > last => return Err(comes_back(name, last)),
            // The past is not written anew.
            (_, Some(until)) if until.saturating_add(1) < epoch => return altered("until_epoch"),
            (_, Some(until_epoch)) => {
                found.push(Change::MeasurementRetired { name: name.clone(), digest: *digest, until_epoch })
            }
            (None, None) => {}
        }
    }
    let is_new = |listed: &&AllowedMeasurement| !old.iter().any(|before| before.digest == listed.digest);
    found.extend(new.iter().filter(is_new).cloned().map(Change::MeasurementAdded));
    Ok(())
}

fn comes_back(name: &str, last: u64) -> EpochError {
    EpochError::Downgrade(format!("measurement {} was to be retired after epoch {last}", Quoted(name)))
}

fn compare_members(old: &[Member], new: &[Member], found: &mut Vec<Change>) -> Result<(), EpochError> {
    for (position, before) in old.iter().enumerate() {
        let Some(after) = new.get(position) else { return Err(EpochError::MemberRemoved(before.id)) };
        compare_member(before, after, found)?;
    }
    for (before, after) in old.iter().flat_map(|before| new.iter().map(move |after| (before, after))) {
        let same = before.id == after.id && before.machine == after.machine;
        if let (Some(one), Some(other)) = (before.enclave, after.enclave)
            && !same
            && one.shares_a_key_with(&other)
        {
            return Err(EpochError::Enclave(after.id));
        }
    }
    for after in new {
        let another = |before: &&Member| {
            before.id != after.id
                && (before.wallet == after.wallet
                    || before.governance == after.governance
                    || before.host_key == after.host_key)
        };
        if let Some(before) = old.iter().find(another) {
            return Err(EpochError::MemberMoved { from: before.id, to: after.id });
        }
    }
    for joining in new.iter().skip(old.len()) {
        check_machine(joining, 0, 0)?;
        found.push(Change::MemberAdded(joining.clone()));
        let enclave = joining.enclave.map(|keys| keys.identity(joining.id, joining.machine));
        found.extend(enclave.map(Change::Enclave));
    }
    Ok(())
}

fn check_machine(member: &Member, lowest: u32, highest: u32) -> Result<(), EpochError> {
    if (lowest..=highest).contains(&member.machine) {
        return Ok(());
    }
    Err(EpochError::Machine { member: member.id, lowest, highest, found: member.machine })
}

fn compare_member(before: &Member, after: &Member, found: &mut Vec<Change>) -> Result<(), EpochError> {
    check_machine(after, before.machine, before.machine.saturating_add(1))?;
    // Ids count from 1 in every manifest.
    let Member {
        id: member,
        name,
        wallet,
        governance,
        host_key,
        machine,
        enclave,
        chip_ids,
        operator,
        guardian,
    } = after;
    let member = *member;
    let replaced = *machine != before.machine;
    if replaced {
        found.push(Change::MachineReplaced { member, machine: *machine });
    }
    // An enclave is named once for each machine, and no key of one is in another.
    let (is_new, has_old) = (*enclave != before.enclave, before.enclave.is_some());
    if has_old && is_new != replaced {
        return Err(EpochError::Enclave(member));
    }
    if let Some(keys) = enclave.filter(|_| is_new) {
        found.push(Change::Enclave(keys.identity(member, *machine)));
    }
    if *chip_ids != before.chip_ids {
        found.push(Change::Chips { member, chips: chip_ids.clone() });
    }
    if *name != before.name {
        found.push(Change::MemberName { member, to: name.clone() });
    }
    if *wallet != before.wallet {
        found.push(Change::Wallet { member, to: *wallet });
    }
    if *governance != before.governance {
        found.push(Change::Governance { member, to: *governance });
    }
    if *host_key != before.host_key {
        found.push(Change::HostKey { member, to: *host_key });
    }
    if (*operator, *guardian) != (before.operator, before.guardian) {
        found.push(Change::Roles { member, operator: *operator, guardian: *guardian });
    }
    Ok(())
}
