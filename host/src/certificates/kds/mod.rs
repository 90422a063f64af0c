//! AMD's Key Distribution Service, or a mirror of it.
//!
//! KDS is throttled (429 for minutes on end), at times down, and answers 404 for chips and levels that it does not know.
//! So: patience with what may pass, none with what won't, and errors that say what was wanted, from where, and what
//! came. Nothing that it sends is believed; see the module above.

mod address;

pub use address::{EndorsementKey, VcekId, VcekIdError};

use super::encoding::{self, Crl, EncodingError, MAX_CERTIFICATES, MAX_CRL, Names};
use crate::chain::body::{self, BodyError};
use crate::chain::describe_error;
use postern_shared::snp::Product;
use reqwest::header::{LOCATION, RETRY_AFTER};
use reqwest::redirect::{Attempt, Policy};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;
use tokio::time::Instant;

/// AMD's own.
pub const AMD_KDS: &str = "https://kdsintf.amd.com";

/// How long one request may take, answer included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most redirects that are followed, all of them within one host.
const MAX_REDIRECTS: usize = 3;

/// How often and how long to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first pause; each further one is twice as long.
    pub first: Duration,
    /// The longest pause, unless KDS itself asks for more.
    pub longest: Duration,
    /// When to give up, counted from the first request.
    pub total: Duration,
}

impl Default for Patience {
    /// KDS was seen to refuse for more than two minutes.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { first: seconds(2), longest: seconds(60), total: seconds(300) }
    }
}

/// Why KDS gave nothing that can be used.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KdsError {
    /// The configured address is none.
    #[error("no address of a key distribution service: {0}")]
    Url(String),
    /// No HTTP client can be made on this machine.
    #[error("no HTTP client: {0}")]
    Client(String),
    /// It was asked, perhaps several times.
    #[error("{wanted} can't be had from {from}: {failure} (asked {attempts}×, path /{path})")]
    Failed {
        /// What was wanted, in words.
        wanted: String,
        /// Scheme, host and port.
        from: String,
        /// Path and query, below the configured address.
        path: String,
        /// How often it was asked.
        attempts: u32,
        /// What came last.
        failure: Box<KdsFailure>,
    },
}

/// What came instead of an answer.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KdsFailure {
    /// No connection, or one that broke.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// Too many requests from this address.
    #[error("throttled (429){}", wait.map(|wait| format!(", try again in {} s", wait.as_secs())).unwrap_or_default())]
    Throttled {
        /// For how long, if it said so.
        wait: Option<Duration>,
    },
    /// It has trouble of its own.
    #[error("status {status}")]
    Server {
        /// 500 and above.
        status: u16,
        /// When to come back, if it said so.
        wait: Option<Duration>,
    },
    /// It has no such thing.
    #[error("not known there (404): an unregistered chip, or firmware newer than the service")]
    NotFound,
    /// Another status.
    #[error("status {status}")]
    Status {
        /// Which.
        status: u16,
    },
    /// It sends us to another host. What lies there is not what was configured.
    #[error("it redirects to {to}, which is not followed")]
    Redirect {
        /// Where to, without path and query.
        to: String,
    },
    /// The answer is larger than it can be.
    #[error("an answer of more than {limit} bytes")]
    TooLarge {
        /// The most that is read.
        limit: usize,
    },
    /// The answer is not what was asked for.
    #[error("a useless answer: {0}")]
    Content(EncodingError),
    /// The answer is of the right kind, but somebody else's.
    #[error("a useless answer: expected {expected}, found {found}")]
    Foreign {
        /// Whose it should be.
        expected: String,
        /// Whose it is.
        found: String,
    },
}

impl KdsFailure {
    /// How long to wait before it is worth another try; never, for what will not change.
    fn pause(&self, pause: Duration) -> Option<Duration> {
        match self {
            Self::Unreachable(_) => Some(pause),
            Self::Throttled { wait } | Self::Server { wait, .. } => Some(wait.unwrap_or_default().max(pause)),
            _ => None,
        }
    }
}

/// A key distribution service.
#[derive(Debug, Clone)]
pub struct Kds {
    /// Scheme, host and port: no user, password or path, which may hold a mirror's access key.
    name: String,
    base: reqwest::Url,
    client: reqwest::Client,
    patience: Patience,
}

impl Kds {
    /// Does not connect yet. `url` is what comes before `/vcek/v1/…`.
    pub fn new(url: &str, patience: Patience) -> Result<Self, KdsError> {
        // Nothing of it is repeated: a mirror's may hold a password.
        let mut base: reqwest::Url = url.parse().map_err(|error| KdsError::Url(format!("{error}")))?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(KdsError::Url("it begins with http:// or https://".to_owned()));
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(KdsError::Url("it has a query or a fragment".to_owned()));
        }
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        let client = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(Policy::custom(|attempt| match stays_at_home(&attempt) {
                true => attempt.follow(),
                false => attempt.stop(),
            }));
        let client = client.build().map_err(|error| KdsError::Client(error.to_string()))?;
        Ok(Self { name: origin(&base), base, client, patience })
    }

    /// A VCEK, DER.
    pub async fn vcek(&self, id: &VcekId) -> Result<Vec<u8>, KdsError> {
        self.get(id.to_string(), id.path(), MAX_CERTIFICATES, self.patience, |body| {
            encoding::certificate(body).map_err(KdsFailure::Content)
        })
        .await
    }

    /// The issuer of a product line's VCEKs or VLEKs, DER. The root that comes with it must be `ark`.
    pub async fn issuer(
        &self,
        product: Product,
        key: EndorsementKey,
        ark: &[u8],
    ) -> Result<Vec<u8>, KdsError> {
        let wanted = format!("the issuer of {product}'s {key}s");
        self.get(wanted, key.chain_path(product), MAX_CERTIFICATES, self.patience, |body| {
            let [issuer, root] = encoding::certificates(body).map_err(KdsFailure::Content)?;
            if root != ark {
                let found = Names::read(&root).map(|names| names.common_name).unwrap_or_default();
                let expected = format!("AMD's root for {product}");
                return Err(KdsFailure::Foreign { expected, found: format!("another root `{found}`") });
            }
            Ok(issuer)
        })
        .await
    }

    /// The revocation list of a product line, DER, of the issuer `ark`. The list is small and not throttled, and one can
    /// go on without it for a while: `total` is all the time that it may take.
    pub(super) async fn crl(
        &self,
        product: Product,
        key: EndorsementKey,
        ark: &[u8],
        total: Duration,
    ) -> Result<Crl, KdsError> {
        let wanted = format!("the revocation list of {product}'s {key}s");
        let patience = Patience { total: total.min(self.patience.total), ..self.patience };
        self.get(wanted, key.crl_path(product), MAX_CRL, patience, |body| {
            let crl = Crl::read(body).map_err(KdsFailure::Content)?;
            if !crl.is_of(ark) {
                let expected = format!("a list by AMD's root for {product}");
                return Err(KdsFailure::Foreign { expected, found: "another issuer's".to_owned() });
            }
            Ok(crl)
        })
        .await
    }

    /// Asks until there is an answer, or no use in asking on.
    async fn get<T>(
        &self,
        wanted: String,
        path: String,
        limit: usize,
        patience: Patience,
        read: impl Fn(&[u8]) -> Result<T, KdsFailure>,
    ) -> Result<T, KdsError> {
        let deadline = Instant::now() + patience.total;
        let (mut attempts, mut pause, mut earlier) = (0, patience.first, None);
        let failure = loop {
            attempts += 1;
            let Ok(answer) = tokio::time::timeout_at(deadline, self.ask(&path, limit)).await else {
                // Why it was asked again says more than that time ran out on the way.
                break earlier.unwrap_or(KdsFailure::Unreachable("no answer in time".to_owned()));
            };
            let failure = match answer.and_then(|body| read(&body)) {
                Ok(found) => return Ok(found),
                Err(failure) => failure,
            };
            // A service may ask for more time than there is.
            let in_time = |wait: &Duration| Instant::now().checked_add(*wait).is_some_and(|at| at < deadline);
            let Some(wait) = failure.pause(with_jitter(pause)).filter(in_time) else { break failure };
            tracing::info!(from = self.name, wanted, %failure, wait = wait.as_secs_f32(), "asking KDS again");
            tokio::time::sleep(wait).await;
            pause = (pause * 2).min(patience.longest);
            earlier = Some(failure);
        };
        Err(KdsError::Failed { wanted, from: self.name.clone(), path, attempts, failure: Box::new(failure) })
    }

    /// One request; its answer up to the limit.
    async fn ask(&self, path: &str, limit: usize) -> Result<Vec<u8>, KdsFailure> {
        let unreachable = |error: reqwest::Error| KdsFailure::Unreachable(describe_error(&error));
        let url = self.base.join(path).map_err(|error| KdsFailure::Unreachable(error.to_string()))?;
        let response = self.client.get(url).send().await.map_err(unreachable)?;
        match response.status().as_u16() {
            200 => {}
            404 => return Err(KdsFailure::NotFound),
            429 => return Err(KdsFailure::Throttled { wait: retry_after(&response) }),
            status @ 500.. => return Err(KdsFailure::Server { status, wait: retry_after(&response) }),
            status @ 300..400 => return Err(redirected(status, &response)),
            status => return Err(KdsFailure::Status { status }),
        }
        body::read(response, limit).await.map_err(|error| match error {
            BodyError::Broken(error) => unreachable(error),
            BodyError::TooLong(limit) => KdsFailure::TooLarge { limit },
        })
    }
}

/// Scheme, host and port.
fn origin(url: &reqwest::Url) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

fn stays_at_home(attempt: &Attempt<'_>) -> bool {
    let so_far = attempt.previous();
    so_far.len() <= MAX_REDIRECTS
        && so_far.first().is_some_and(|first| origin(first) == origin(attempt.url()))
}

fn redirected(status: u16, response: &reqwest::Response) -> KdsFailure {
    let target = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let target = target.and_then(|location| response.url().join(location).ok());
    target.map_or(KdsFailure::Status { status }, |target| KdsFailure::Redirect { to: origin(&target) })
}

/// The seconds that a service asks to be left alone. The form with a date is not read: KDS sends seconds.
fn retry_after(response: &reqwest::Response) -> Option<Duration> {
    let value = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Between half of the pause and all of it, so that hosts which failed together don't come back together. The standard
/// library's hash keys are random enough for that.
fn with_jitter(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) as f64 / u64::MAX as f64;
    pause.mul_f64(0.5 + random / 2.0)
}

#[cfg(test)]
mod tests;
