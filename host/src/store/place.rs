//! Where a store is.

use super::postgres::PostgresPlace;
use std::path::PathBuf;

/// Where a host keeps what must survive.
#[derive(Debug, Clone)]
pub enum Place {
    /// The file `postern.sqlite` in a directory.
    Directory(PathBuf),
    /// A schema of a PostgreSQL database.
    Postgres(Box<PostgresPlace>),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(directory) => directory.display().fmt(f),
            Self::Postgres(place) => place.fmt(f),
        }
    }
}
