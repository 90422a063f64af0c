//! Release in public: guardians authorise it, one of them collects their shares, the exit appears.
//!
//! 1. Each guardian whose own host saw the DAO's wish on chain says so ([`Authorise`]).
//! 2. Once a threshold has, any guardian may collect ([`Call`]). Each guardian that has authorised, and has heard that a
//!    threshold has, seals its shares of all operators' splits to whoever calls.
//! 3. Who has a threshold of good shares over the splits of enough operators puts the exit together and says it
//!    ([`Released`]): anybody can check it.
//!
//! Nobody leads. If one that collects is silent, another collects; if several do, the same exit appears several times.
//!
//! # Authorise first, then give
//! Guardians' shares of a presign combine whatever wish they were given for. If each guardian gave its share on its own
//! host's word, different errors of single hosts, over the years, would add up to an exit that nobody wanted. So what adds up
//! is public, and names one presign and one log on chain; shares leave when a threshold has said the same. An authorisation
//! is not taken back: a log that was never there counts, too, once a threshold of hosts has been told of that same log.
//!
//! # Why the operators are not agreed on
//! Guardians' shares combine over the splits of one set of operators, and over no mixture. If that set was agreed on
//! beforehand, or chosen by whoever collects, an operator that gave several guardians different splits, each good by itself,
//! could have the set include its own, and together with t-1 corrupted guardians that say that they hold it, leave fewer than
//! a threshold that do. So guardians give what they hold of each operator's split. From any threshold of good shares of one
//! split follows that operator's partial signature, whoever gave them, and from a threshold of those the exit: honest
//! guardians' shares of honest operators' splits are always enough. No agreement, which fewer broken enclaves can disturb than
//! a threshold, and no search stands between a validator and its exit.
//!
//! It gives nobody more than the exit: partial signatures are over this one exit, which is public then.

use super::basis::{Basis, TranscriptError, at_least};
use super::court::{Court, Protocol};
use super::presign::PresignTerms;
use super::reader::{Reader, says};
use crate::bls::Signature;
use crate::codec;
use crate::ethereum::SignedVoluntaryExit;
use crate::events::EventSource;
use crate::hash::Transcriber;
use crate::identity::{IdentitySignature, Roster};
use crate::ids::{CeremonyId, MemberId, PoolId};
use crate::message::{Broadcast, Slot, Step};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// What all participants must agree on before they start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseTerms {
    /// What was presigned, for whom.
    pub presign: PresignTerms,
    /// The DAO's wish on chain.
    pub source: EventSource,
}

/// A guardian's public word that the DAO wants the exit: which exit, and by which wish, its ceremony says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorise;

/// A guardian collects shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call;

/// The exit's signature, by whoever has put it together, and on whose word: whoever hears it has all that there is to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// Under the validator's key.
    pub signature: Signature,
    /// At least a threshold of guardians, ascending, each with its signature of [`Authorise`].
    pub authorised: Vec<(MemberId, IdentitySignature)>,
}

/// An exit was released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseProceedings {
    /// What they had agreed on.
    pub terms: ReleaseTerms,
    /// Guardians' authorisations.
    pub statements: Vec<Broadcast>,
    /// The result.
    pub exit: SignedVoluntaryExit,
}

impl ReleaseTerms {
    /// The ceremony's id.
    pub fn ceremony(&self) -> CeremonyId {
        Self::ceremony_of(self.presign.ceremony(), self.source)
    }

    /// The id of the ceremony that releases this presign for this wish.
    pub fn ceremony_of(presign: CeremonyId, source: EventSource) -> CeremonyId {
        let terms = Transcriber::new("postern-release-v2").bytes(&presign.0).bytes(&codec::encode(&source));
        CeremonyId(terms.finish().0)
    }

    /// Guardians' authorisations as statements.
    pub fn authorisations(&self, signatures: &[(MemberId, IdentitySignature)]) -> Vec<Broadcast> {
        let (ceremony, body) = (self.ceremony(), codec::encode(&Authorise));
        let statement = |(guardian, signature): &(MemberId, IdentitySignature)| Broadcast {
            slot: Slot::of(ceremony, *guardian, Step::Authorise),
            body: body.clone(),
            signature: *signature,
        };
        signatures.iter().map(statement).collect()
    }

    /// What is in a released exit, if all of it is good: the exit, and who has authorised it.
    pub fn released(&self, said: &Released, roster: &Roster) -> Option<SignedVoluntaryExit> {
        let PresignTerms { guardians, guardian_threshold, .. } = &self.presign;
        let ascending = said.authorised.is_sorted_by(|(one, _), (next, _)| one < next);
        let enough = said.authorised.len() >= usize::from(*guardian_threshold);
        let few = said.authorised.len() <= guardians.len();
        let authentic = |statement: &Broadcast| {
            let from = statement.slot.from;
            let speaker = roster.get(from).filter(|_| guardians.contains(&from));
            speaker.is_some_and(|speaker| statement.signed_digest().verify(speaker))
        };
        let good = ascending && enough && few && self.authorisations(&said.authorised).iter().all(authentic);
        self.exit(said.signature).filter(|_| good)
    }

    /// The exit with a signature, if that is the validator's.
    pub fn exit(&self, signature: Signature) -> Option<SignedVoluntaryExit> {
        let PresignTerms { network, exit: message, certificate, .. } = &self.presign;
        let root = message.signing_root(network.capella_fork_version, network.genesis_validators_root);
        let holds = certificate.pubkey().verify(&root.0, &signature).is_ok();
        holds.then_some(SignedVoluntaryExit { message: *message, signature })
    }
}

impl Protocol for ReleaseTerms {
    fn ceremony(&self) -> CeremonyId {
        self.ceremony()
    }

    fn pool(&self) -> PoolId {
        self.presign.pool
    }

    fn check(&self, basis: &Basis<'_>) -> Result<(), TranscriptError> {
        self.presign.check(basis)
    }

    fn is_invalid(&self, statement: &Broadcast, court: &Court<'_>) -> bool {
        let (slot, body) = (statement.slot, &statement.body);
        let good = match slot.step {
            Step::Authorise => codec::decode::<Authorise>(body).is_ok(),
            Step::Call => codec::decode::<Call>(body).is_ok(),
            Step::Released => {
                codec::decode(body).is_ok_and(|said| self.released(&said, court.roster).is_some())
            }
            _ => false,
        };
        !good || slot.item != 0 || self.presign.position(slot.from).is_none()
    }
}

impl ReleaseProceedings {
    /// Checks everything but attestation evidence; says which guardians have authorised the release.
    pub(super) fn verify(&self, basis: &Basis<'_>) -> Result<Vec<MemberId>, TranscriptError> {
        let Self { terms, statements, exit } = self;
        terms.check(basis)?;
        let presign = &terms.presign;
        let mut reader = Reader::new(basis, terms.ceremony(), statements)?;
        let mut guardians = Vec::new();
        for guardian in presign.guardians.iter().copied() {
            let said = reader.read(guardian, Step::Authorise, 0, |said| says(said, |Authorise| true))?;
            guardians.extend(said.map(|()| guardian));
        }
        reader.finish()?;
        at_least(presign.guardian_threshold.into(), guardians.len())?;
        if terms.exit(exit.signature) != Some(*exit) {
            return Err(TranscriptError::Result);
        }
        Ok(guardians)
    }
}
