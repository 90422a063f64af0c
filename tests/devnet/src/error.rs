//! Why a development network could not be started.

use thiserror::Error;

/// Why a development network could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Error {
    /// A parameter of the configuration must not be zero.
    #[error("configuration parameter {0} must not be zero")]
    ZeroParameter(&'static str),
    /// A port could not be opened.
    #[error("cannot listen on 127.0.0.1:{port}")]
    Listen {
        /// The port asked for; 0 is any free one.
        port: u16,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The compiled deposit contract is damaged.
    #[error("the deposit contract's artifact is not usable: {0}")]
    DepositContract(String),
    /// The system's clock stands before 1970.
    #[error("the system clock is before 1970")]
    Clock,
}
