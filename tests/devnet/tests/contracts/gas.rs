//! What a deposit and an epoch cost, for `host/contracts/SECURITY.md`.

use super::chain::{Bench, STRANGER, staker};
use crate::support::ETHER;

#[test]
#[ignore = "prints a table"]
fn gas_of_a_deposit_and_of_an_epoch() {
    for quorum in [2u16, 3, 5, 9, 19] {
        let mut bench = Bench::new(2 * quorum - 1);
        bench.stake(staker(0), 64 * ETHER);
        // The deposit contract writes more or fewer words from deposit to deposit: two in a row.
        let gas = [1, 2].map(|pool| {
            let call = bench.deposit_call(pool, 0);
            bench.send(STRANGER, 0, &call).unwrap().gas
        });
        let next = bench.dao.next();
        let call = bench.dao.advance_rightly(bench.place(0), &next);
        let epoch = bench.send(STRANGER, 0, &call).unwrap().gas;
        let members = 2 * quorum - 1;
        println!("q = {quorum:2} of {members:2}: deposits {} and {}, an epoch {epoch}", gas[0], gas[1]);
    }
}
