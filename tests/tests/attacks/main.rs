//! The known attacks, each by corrupted enclaves inside an otherwise honest DAO, or by hosts. One program for all of them.

mod admission;
mod agreement;
mod bad_input;
mod corrections;
mod dealing;
mod founding;
mod framing;
mod freezing;
mod keygen;
mod old_keys;
mod old_state;
mod presign;
mod proofs;
mod release;
mod retired_code;
mod secrecy;
mod settled;
