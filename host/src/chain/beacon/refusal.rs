//! What beacon nodes say when they refuse an exit.
//!
//! The Beacon API fixes neither status nor text: Lodestar 1.5 answers 500 to a bad signature, others 400 to everything,
//! and a known exit is an error for some and a success for others. So the texts are read, case and punctuation aside.

use crate::chain::shorten;

/// Why a beacon node did not take an exit.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExitRefusal {
    /// It has it already. As good as taken.
    #[error("the exit is known already")]
    AlreadyKnown,
    /// The validator is leaving already. As good as taken.
    #[error("the validator is exiting already")]
    AlreadyExiting,
    /// The signature is not the validator's, or is over another network's or fork's domain.
    #[error("the signature is invalid")]
    InvalidSignature,
    /// The validator must be active for longer before it may exit.
    #[error("the validator has not been active for long enough")]
    NotActiveLongEnough,
    /// The validator is not active.
    #[error("the validator is not active")]
    NotActive,
    /// The exit's epoch has not come yet.
    #[error("the exit's epoch is in the future")]
    FutureEpoch,
    /// The node's state has no such validator.
    #[error("the validator is unknown")]
    UnknownValidator,
    /// Anything else, in the node's words.
    #[error("`{0}`")]
    Other(String),
}

/// How clients word each refusal: lower case, letters and digits only. The first row that occurs in a message wins, so
/// specific wordings come before general ones.
///
/// Lodestar says `VOLUNTARY_EXIT_ERROR_…`; Lighthouse prints `ExitInvalid`'s variants; Prysm, Teku and Nimbus write
/// sentences. Grandine takes an exit again without a word.
const WORDINGS: &[(&str, ExitRefusal)] = &[
    ("exiterrorinvalidsignature", ExitRefusal::InvalidSignature),
    ("badsignature", ExitRefusal::InvalidSignature),
    ("signaturedidnotverify", ExitRefusal::InvalidSignature),
    ("signatureisinvalid", ExitRefusal::InvalidSignature),
    ("invalidsignature", ExitRefusal::InvalidSignature),
    ("invalidvalidatorsignature", ExitRefusal::InvalidSignature),
    ("invalidvoluntaryexitsignature", ExitRefusal::InvalidSignature),
    ("exiterroralreadyexists", ExitRefusal::AlreadyKnown),
    ("priorexitknown", ExitRefusal::AlreadyKnown),
    ("exitalreadyknown", ExitRefusal::AlreadyKnown),
    ("notthefirstoneforvalidator", ExitRefusal::AlreadyKnown),
    ("alreadyvoluntarilyexited", ExitRefusal::AlreadyKnown),
    ("morethanoneexitforasinglevalidator", ExitRefusal::AlreadyKnown),
    ("alreadyseen", ExitRefusal::AlreadyKnown),
    ("exiterroralreadyexited", ExitRefusal::AlreadyExiting),
    ("alreadyexited", ExitRefusal::AlreadyExiting),
    ("alreadyinitiatedexit", ExitRefusal::AlreadyExiting),
    ("alreadysubmittedanexit", ExitRefusal::AlreadyExiting),
    ("validatorhasexited", ExitRefusal::AlreadyExiting),
    ("exiterrorshorttimeactive", ExitRefusal::NotActiveLongEnough),
    ("tooyoungtoexit", ExitRefusal::NotActiveLongEnough),
    ("notbeenactivelongenough", ExitRefusal::NotActiveLongEnough),
    ("validatorcannotexituntilepoch", ExitRefusal::NotActiveLongEnough),
    ("notinvalidatorsetlongenough", ExitRefusal::NotActiveLongEnough),
    ("exiterrorearlyepoch", ExitRefusal::FutureEpoch),
    ("futureepoch", ExitRefusal::FutureEpoch),
    ("expectedcurrentepochexitepoch", ExitRefusal::FutureEpoch),
    ("exitepochisstillinthefuture", ExitRefusal::FutureEpoch),
    ("exitepochnotpassed", ExitRefusal::FutureEpoch),
    ("epochisinthefuture", ExitRefusal::FutureEpoch),
    ("exiterrorinactive", ExitRefusal::NotActive),
    ("invalidnotactive", ExitRefusal::NotActive),
    ("nonactivevalidator", ExitRefusal::NotActive),
    ("validatorisnotactive", ExitRefusal::NotActive),
    ("validatornotactive", ExitRefusal::NotActive),
    ("validatorunknown", ExitRefusal::UnknownValidator),
    ("unknownvalidator", ExitRefusal::UnknownValidator),
    ("invalidvalidatorindex", ExitRefusal::UnknownValidator),
    ("validatorindextoohigh", ExitRefusal::UnknownValidator),
    ("validatorindexoutofrange", ExitRefusal::UnknownValidator),
    ("validatornotfound", ExitRefusal::UnknownValidator),
];

impl ExitRefusal {
    /// Reads a node's message.
    pub fn from_message(message: &str) -> Self {
        let plain: String = message
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .collect();
        let known = WORDINGS.iter().find(|(wording, _)| plain.contains(wording));
        known.map_or_else(|| Self::Other(shorten(message)), |(_, refusal)| refusal.clone())
    }

    /// Whether the exit is on its way all the same.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::AlreadyKnown | Self::AlreadyExiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::MOST_WORDS;

    #[test]
    fn the_wordings_of_five_clients_are_understood() {
        let cases = [
            ("VOLUNTARY_EXIT_ERROR_INVALID_SIGNATURE", ExitRefusal::InvalidSignature),
            ("VOLUNTARY_EXIT_ERROR_ALREADY_EXISTS", ExitRefusal::AlreadyKnown),
            ("VOLUNTARY_EXIT_ERROR_ALREADY_EXITED", ExitRefusal::AlreadyExiting),
            ("VOLUNTARY_EXIT_ERROR_SHORT_TIME_ACTIVE", ExitRefusal::NotActiveLongEnough),
            ("VOLUNTARY_EXIT_ERROR_EARLY_EPOCH", ExitRefusal::FutureEpoch),
            ("VOLUNTARY_EXIT_ERROR_INACTIVE", ExitRefusal::NotActive),
            (
                "BAD_REQUEST: Invalid object: gossip verification failed: ExitValidationError(Invalid(NotActive(384413)))",
                ExitRefusal::NotActive,
            ),
            ("BAD_REQUEST: … Invalid(AlreadyInitiatedExit(7))", ExitRefusal::AlreadyExiting),
            (
                "BAD_REQUEST: … Invalid(TooYoungToExit { current_epoch: 1, … })",
                ExitRefusal::NotActiveLongEnough,
            ),
            ("BAD_REQUEST: … Invalid(FutureEpoch { state: 1, exit: 9 })", ExitRefusal::FutureEpoch),
            ("BAD_REQUEST: … Invalid(BadSignature)", ExitRefusal::InvalidSignature),
            ("BAD_REQUEST: … Invalid(ValidatorUnknown(9))", ExitRefusal::UnknownValidator),
            (
                "Invalid exit: validator has not been active long enough to exit: 182 of 256 epochs.",
                ExitRefusal::NotActiveLongEnough,
            ),
            (
                "validator with index 0 has already submitted an exit, which will …",
                ExitRefusal::AlreadyExiting,
            ),
            ("Invalid exit: expected current epoch >= exit epoch, received 3 < 9", ExitRefusal::FutureEpoch),
            ("non-active validator cannot exit", ExitRefusal::NotActive),
            ("Invalid exit: signature did not verify", ExitRefusal::InvalidSignature),
            ("Specified exit epoch is still in the future", ExitRefusal::FutureEpoch),
            ("Validator cannot exit until epoch 300", ExitRefusal::NotActiveLongEnough),
            ("Validator has already initiated exit", ExitRefusal::AlreadyExiting),
            ("Signature is invalid", ExitRefusal::InvalidSignature),
            ("Exit: not in validator set long enough", ExitRefusal::NotActiveLongEnough),
            ("Exit: invalid validator index", ExitRefusal::UnknownValidator),
            ("Exit: exit epoch not passed", ExitRefusal::FutureEpoch),
            // The same exit once more: Teku, and Nimbus with the words that it has in `stacktraces`.
            ("Exit is not the first one for validator 7.", ExitRefusal::AlreadyKnown),
            (
                "Invalid voluntary exit, it will never pass validation so it's rejected: \
                 (Ignore, \"VoluntaryExit: validator index already voluntarily exited\")",
                ExitRefusal::AlreadyKnown,
            ),
            ("VoluntaryExit: validator index too high", ExitRefusal::UnknownValidator),
        ];
        for (message, expected) in cases {
            assert_eq!(ExitRefusal::from_message(message), expected, "{message}");
        }
    }

    #[test]
    fn an_unspecific_refusal_keeps_the_nodes_words_but_not_all_of_them() {
        let lodestar = "VOLUNTARY_EXIT_ERROR_INVALID";
        assert_eq!(ExitRefusal::from_message(lodestar), ExitRefusal::Other(lodestar.to_owned()));
        let ExitRefusal::Other(text) = ExitRefusal::from_message(&"\u{1b}x".repeat(10_000)) else {
            panic!("not `Other`")
        };
        assert_eq!(text.len(), MOST_WORDS);
        assert!(text.chars().all(|letter| letter == 'x'));
    }
}
