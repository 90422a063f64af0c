//! Hosts that see to the same calls, in a time of their own.

use super::*;
use crate::daemon::calls::Turns;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

/// How long each host waits for the one before it.
const TURN: Duration = Duration::from_secs(90);
/// Between two rounds of a host.
const PAUSE: Duration = Duration::from_secs(6);
/// How long the chain and the enclaves are asked for a call.
const ASKED: Duration = Duration::from_millis(300);
/// How long it takes to sign a call and to send it.
const SENT: Duration = Duration::from_millis(500);
/// How long it takes to be mined.
const MINED: Duration = Duration::from_secs(12);

/// A clock that moves only when everybody waits for it.
struct Clock {
    begun: Instant,
    now: Cell<Instant>,
    waited_for: RefCell<BTreeSet<Instant>>,
}

impl Clock {
    fn new() -> Self {
        let begun = Instant::now();
        Self { begun, now: Cell::new(begun), waited_for: RefCell::default() }
    }

    /// No two waits end in the same moment.
    async fn sleep(&self, pause: Duration) {
        let mut until = self.now.get() + pause;
        while !self.waited_for.borrow_mut().insert(until) {
            until += Duration::from_nanos(1);
        }
        poll_fn(|_| if self.now.get() >= until { Poll::Ready(()) } else { Poll::Pending }).await;
    }

    fn run(&self, work: impl Future<Output = ()>) {
        let mut work = pin!(work);
        let mut context = Context::from_waker(Waker::noop());
        while work.as_mut().poll(&mut context).is_pending() {
            let next = self.waited_for.borrow_mut().pop_first();
            self.now.set(next.expect("somebody waits"));
        }
    }
}

/// Who has paid for each call, and when it was mined first.
struct Chain {
    clock: Clock,
    calls: usize,
    paid: RefCell<BTreeMap<usize, Vec<usize>>>,
    mined: RefCell<BTreeMap<usize, Instant>>,
}

impl Chain {
    fn is_mined(&self, call: usize) -> bool {
        self.mined.borrow().get(&call).is_some_and(|mined| *mined <= self.clock.now.get())
    }

    fn is_done(&self) -> bool {
        (0..self.calls).all(|call| self.is_mined(call))
    }

    /// A host that comes after so many others; it works until all is done, or for so long.
    async fn host(&self, place: u32, lives: Duration) {
        let (turns, wait) = (Turns::default(), TURN * place);
        let (now, own) = (|| self.clock.now.get(), RefCell::new(BTreeSet::new()));
        let lives = || now() - self.clock.begun < lives;
        let name = |call: usize| format!("call-{call}");
        while !self.is_done() && lives() {
            let is_due =
                |call: &usize| !own.borrow().contains(call) && turns.has_waited(&name(*call), wait, now());
            let due: Vec<usize> = (0..self.calls).filter(is_due).collect();
            let seen_to = async |call: usize| {
                self.clock.sleep(ASKED).await;
                if self.is_mined(call) {
                    turns.made_by_another(|known| known == name(call), now());
                    turns.put_off(&name(call), now() + TURN * 100);
                    return Ok(None);
                }
                Ok::<_, ()>(Some(call))
            };
            let taken = async |call: usize| {
                if !lives() || turns.leaves_to_others(&name(call), wait, now()) {
                    return Ok(ControlFlow::Break(()));
                }
                self.clock.sleep(SENT).await;
                own.borrow_mut().insert(call);
                self.paid.borrow_mut().entry(call).or_default().push(place as usize);
                self.mined.borrow_mut().entry(call).or_insert(now() + MINED);
                Ok(ControlFlow::Continue(()))
            };
            see_to(due, seen_to, taken).await.unwrap();
            self.clock.sleep(PAUSE).await;
        }
    }
}

/// Who has paid for each of so many calls, if the hosts live so long; and how long it took until the last one was mined.
fn pay(calls: usize, lives: [Duration; 3]) -> (Vec<Vec<usize>>, Duration) {
    let chain = Chain { clock: Clock::new(), calls, paid: RefCell::default(), mined: RefCell::default() };
    let hosts = (0..).zip(lives).map(|(place, lives)| chain.host(place, lives));
    chain.clock.run(async {
        join_all(hosts).await;
    });
    let took = chain.clock.now.get() - chain.clock.begun;
    (chain.paid.into_inner().into_values().collect(), took)
}

#[test]
fn of_many_calls_that_come_due_at_once_each_is_paid_for_by_one_host() {
    let long = Duration::from_hours(24);
    // Half an hour of work for one host, of which the turns of the others come after minutes.
    let (paid, _) = pay(3_000, [long; 3]);
    assert_eq!((paid.len(), paid.iter().all(|hosts| *hosts == [0])), (3_000, true));

    // The first one goes away in the middle of it: what it has left is made by the next one, soon.
    let half = Duration::from_secs(800);
    let (paid, took) = pay(3_000, [half, long, long]);
    assert_eq!(paid.len(), 3_000);
    let by = |host: usize| paid.iter().filter(|hosts| **hosts == [host]).count();
    assert!(by(0) > 1_000 && by(1) > 1_000, "{} {}", by(0), by(1));
    let twice = paid.iter().filter(|hosts| hosts.len() > 1).count();
    assert_eq!((by(2), twice), (0, 0));
    assert!(took < half * 2 + TURN * 4, "{took:?}");

    // The first one was never there.
    let (paid, _) = pay(100, [Duration::ZERO, long, long]);
    assert_eq!((paid.len(), paid.iter().all(|hosts| *hosts == [1])), (100, true));
}

#[test]
fn some_are_seen_to_at_a_time_and_all_in_order_until_one_has_to_wait() {
    let (clock, at_once, most) = (Clock::new(), Cell::new(0), Cell::new(0));
    let taken = RefCell::new(Vec::new());
    clock.run(async {
        let seen_to = async |number: u32| {
            at_once.set(at_once.get() + 1);
            most.set(at_once.get().max(most.get()));
            // The later ones are there first.
            clock.sleep(Duration::from_secs(100) / (number + 1)).await;
            at_once.set(at_once.get() - 1);
            Ok::<_, ()>((!number.is_multiple_of(3)).then_some(number))
        };
        let take = async |number: u32| {
            taken.borrow_mut().push(number);
            Ok(if number == 11 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        see_to(0..100, seen_to, take).await.unwrap();
    });
    assert_eq!((most.get(), taken.into_inner()), (AT_ONCE, vec![1, 2, 4, 5, 7, 8, 10, 11]));
}

#[test]
fn others_are_at_work_as_long_as_they_make_what_came_due_before() {
    let (mut made, start) = (MadeByOthers::default(), Instant::now());
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut is_left = |notes: &[(u64, u64)], due, now| {
        notes.iter().for_each(|(due, seen)| made.note(at(*due), at(*seen)));
        made.are_at_work(at(due), TURN, at(now))
    };
    assert!(!is_left(&[], 5, 100));
    assert!(is_left(&[(5, 100)], 5, 100));
    assert!(!is_left(&[], 4, 100), "it has passed this one over");
    assert!(is_left(&[], 900, 189) && !is_left(&[], 900, 190));
    // It comes back to an earlier one.
    assert!(is_left(&[(7, 200), (3, 250)], 3, 339));
    assert!(is_left(&[], 7, 339) && !is_left(&[], 7, 340));
    assert_eq!(made.0.len(), 1);
}
