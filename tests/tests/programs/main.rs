//! Whole programs, ours and others': demos under fire and with liars, a DAO among nodes that lie, hosts' chain clients against real nodes. All of it is
//! slow, and run by `tests/slow.sh`, one module at a time.

mod demos;
mod endurance;
mod kill;
mod peer;
mod real_beacon_node;
mod real_execution_node;
mod view;
