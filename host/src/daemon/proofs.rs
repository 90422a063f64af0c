//! Collects what enclaves sign for a pool manager from all members' hosts.

use super::Shared;
use crate::network::{Answer, Question};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use postern_shared::ecdsa::{EthereumSignature, recover};
use postern_shared::eip712::Domain;
use postern_shared::ids::MemberId;
use postern_shared::proof::{Council, Proof, ProofRequest};
use postern_shared::wire::{Reply, Request};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long other hosts have to answer; who has not by then is asked again.
const PATIENCE: Duration = Duration::from_secs(5);

/// The proof, if enough of the enclaves that the pool manager knows sign. Hosts that answer nothing or nonsense keep nobody
/// from it, and are named.
pub(super) async fn collect(shared: &Shared, asked: ProofRequest, council: &Council) -> Option<Proof> {
    let contract = asked.what.contract();
    let domain = Domain { chain_id: shared.manifest.network.chain_id, verifying_contract: contract };
    let digest = asked.what.statement().digest(&domain, asked.epoch);
    let mut signatures = BTreeMap::new();
    let mut take = |member: MemberId, answer: Result<EthereumSignature, String>| {
        let signer = council.signer(member);
        match answer {
            Ok(signature) if signer.is_some() && recover(&digest, &signature).ok() == signer => {
                signatures.insert(member, signature);
            }
            Ok(_) => tracing::warn!(%member, %contract, "answers with a signature that is not its enclave's"),
            Err(reason) => tracing::debug!(%member, %contract, reason, "does not prove it"),
        }
        // It verifies all of them once more: not before they may be enough.
        let wanted = council.quorum.into();
        let proof = || Proof::collect(&digest, &council.signers, wanted, &signatures);
        (signatures.len() >= wanted).then(proof).flatten()
    };
    // Waited for to the end: a question that is given up takes the connection to the enclave with it.
    let own = match shared.enclave.ask(&Request::Prove(asked)).await {
        Ok(Reply::Proved(signature)) => Ok(signature),
        Ok(reply) => Err(format!("{reply:?}")),
        Err(error) => Err(error.to_string()),
    };
    let mut proof = take(shared.member, own);
    let others = (1..).map(MemberId).take(council.signers.len()).filter(|member| *member != shared.member);
    let mut answers: FuturesUnordered<_> =
        others.map(|member| async move { (member, ask(shared, member, asked).await) }).collect();
    let gather = async {
        while proof.is_none() {
            let Some((member, answer)) = answers.next().await else { break };
            proof = take(member, answer);
        }
    };
    let _ = tokio::time::timeout(PATIENCE, gather).await;
    if proof.is_none() {
        let (statement, found, wanted) = (asked.what.statement(), signatures.len(), council.quorum);
        tracing::warn!(%contract, ?statement, found, wanted, "too few enclaves prove it so far");
    }
    proof
}

async fn ask(shared: &Shared, member: MemberId, asked: ProofRequest) -> Result<EthereumSignature, String> {
    match shared.network.ask(member, Question::Prove(asked)).await {
        Ok(Answer::Proved(signature)) => Ok(signature),
        Ok(answer) => Err(format!("{answer:?}")),
        Err(error) => Err(error.to_string()),
    }
}
