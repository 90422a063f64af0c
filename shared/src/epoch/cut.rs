//! What a cut may list: [`Cut`].

use crate::ids::{ManifestHash, MemberId};
use crate::manifest::{Cut, Manifest, Resumed};
use crate::witness::{Claim, SignedNote};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What an enclave that waits for a cut says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// Its copy, and what that goes on from.
    pub claim: Claim,
    /// The newest places of others that it remembers.
    pub noted: Vec<SignedNote>,
}

/// Why copies can't be listed together.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutError {
    /// The manifest's enclave has not said this.
    #[error("what is said of {0} was not signed by its enclave")]
    Forged(MemberId),
    /// Something that was noted is not in what the listed copy goes on from: that is old, or others have let another copy in
    /// since.
    #[error(
        "the copy of {member} lacks what the enclave of {noted_by} has noted of it: it is not the newest"
    )]
    Older {
        /// Whose.
        member: MemberId,
        /// By whom.
        noted_by: MemberId,
    },
}

impl Waiting {
    /// The line of the cut.
    pub fn resumed(&self) -> Resumed {
        let note = self.claim.note.note;
        Resumed { member: note.member, ballot: note.ballot, place: note.place }
    }
}

/// The cut of the epoch after `manifest` that lets these copies in. Refuses copies that lack what others of them have noted: an
/// acknowledgement that is still on its way could let something out that the DAO then forgets. It holds if fewer hosts than
/// the agreement's quorum keep something back (`postern-tests`, `guard_model`).
///
/// # Errors
/// What is forged, or old.
pub fn cut(manifest: &Manifest, copies: &[Waiting]) -> Result<Cut, CutError> {
    let dao = manifest.genesis();
    let mut members: Vec<Resumed> = Vec::with_capacity(copies.len());
    for Waiting { claim, noted } in copies {
        let member = claim.note.note.member;
        if !claim.is_whole() || !is_signed(manifest, dao, &claim.note) {
            return Err(CutError::Forged(member));
        }
        for other in copies {
            let newest = noted.iter().filter(|noted| noted.note.member == other.claim.note.note.member);
            for noted in newest.filter(|noted| is_signed(manifest, dao, noted)) {
                if !other.claim.contains(&noted.note) {
                    return Err(CutError::Older { member: noted.note.member, noted_by: member });
                }
            }
        }
    }
    members.extend(copies.iter().map(Waiting::resumed));
    members.sort_by_key(|resumed| resumed.member);
    Ok(Cut { epoch: manifest.epoch.saturating_add(1), members })
}

fn is_signed(manifest: &Manifest, dao: ManifestHash, note: &SignedNote) -> bool {
    manifest.identity(note.note.member).is_some_and(|enclave| note.verify(dao, &enclave))
}
