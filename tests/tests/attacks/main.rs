//! The known attacks, each by corrupted enclaves inside an otherwise honest DAO, or by hosts. One program for all of them.

mod corrections;
mod dealing;
mod framing;
mod freezing;
mod keygen;
mod old_keys;
mod presign_release;
mod settled;
