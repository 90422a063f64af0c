//! What calls leave behind on the stack.
//!
//! A function that returns a secret by value leaves copies of it in memory that nothing wipes: in its own frame, in those
//! of whatever it called, and wherever the value passed through on its way. They are below the caller's frame, and there
//! they stay until something else needs that stack, which may be never.

use zeroize::Zeroize;

/// How much stack is wiped: several times what a system call and what wraps it take, in builds without optimisation too.
const DEPTH: usize = 16 << 10;

/// Has a secret given by value, puts it where it is to be, and wipes what that has left behind.
///
/// What remains is what no code of ours reaches: registers, until they are used for something else.
pub(crate) fn take<E>(into: &mut [u8; 32], give: impl FnOnce() -> Result<[u8; 32], E>) -> Result<(), E> {
    let taken = copy(into, give);
    wipe();
    taken
}

/// Not inlined: so all that it does happens in stack that [`wipe`], called after it from the same place, has as its own.
#[inline(never)]
fn copy<E>(into: &mut [u8; 32], give: impl FnOnce() -> Result<[u8; 32], E>) -> Result<(), E> {
    let mut secret = give()?;
    into.copy_from_slice(&secret);
    secret.zeroize();
    Ok(())
}

#[inline(never)]
fn wipe() {
    let mut below = [0; DEPTH];
    below.zeroize();
    core::hint::black_box(&below);
}

#[cfg(all(test, target_os = "linux"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use core::hint::black_box;
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    /// How far down the test looks.
    const SEEN: usize = 8 << 10;

    fn secret_byte(index: usize) -> u8 {
        (index * 37 + 11) as u8
    }

    /// As `sev` does: the answer in its frame, a copy returned. Deep enough that looking for it does not overwrite it.
    #[inline(never)]
    fn firmware() -> Result<[u8; 32], ()> {
        let above = black_box([1u8; 3 << 10]);
        let mut response = [0; 64];
        for (index, byte) in response[32..].iter_mut().enumerate() {
            *byte = secret_byte(index) ^ (above[0] - 1);
        }
        black_box(&response);
        response[32..].try_into().map_err(|_| ())
    }

    /// Whether half of the secret or more lies in the stack that is not in use.
    #[inline(never)]
    fn is_left_behind(memory: &File, seen: &mut Vec<u8>) -> bool {
        let here = 0u8;
        let below = (&raw const here).addr() - SEEN;
        seen.resize(SEEN, 0);
        memory.read_exact_at(seen, below as u64).unwrap();
        seen.windows(16)
            .any(|window| window.iter().enumerate().all(|(index, byte)| *byte == secret_byte(index)))
    }

    #[test]
    fn a_secret_that_is_given_by_value_leaves_nothing_on_the_stack() {
        let (memory, mut seen) = (File::open("/proc/self/mem").unwrap(), Vec::with_capacity(SEEN));
        let mut key = Box::new([0; 32]);
        // The control: without the wiping it is found.
        copy(&mut key, firmware).unwrap();
        assert!(is_left_behind(&memory, &mut seen));
        key.zeroize();
        take(&mut key, firmware).unwrap();
        assert!(!is_left_behind(&memory, &mut seen));
        assert!(key.iter().enumerate().all(|(index, byte)| *byte == secret_byte(index)));
        assert_eq!(take(&mut key, || Err("refused")), Err("refused"));
    }
}
