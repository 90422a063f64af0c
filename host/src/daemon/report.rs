//! The status file.

use super::{DaemonError, Shared, alerts};
use crate::blocking;
use crate::clock::now;
use crate::config::Config;
use crate::status::{HostStatus, PoolStatus, Progress, Refused, STATUS_FILE, Subject, Trouble};
use crate::store::StoreError;
use crate::whole_file;
use postern_shared::ids::PoolId;
use postern_shared::policy::Trust;
use postern_shared::wire::{RefusedMember, Standing, Status};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::futures::Notified;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Shortest time between two versions of the file.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest time without a look.
const LONGEST: Duration = Duration::from_secs(1);

/// Longest time between two versions of the file: by that it shows that the host lives.
const HEARTBEAT: Duration = Duration::from_secs(10);

/// What the file takes at most of a disk, in bytes a second: with ten thousand pools it has some megabytes.
const RATE: u64 = 1 << 20;

/// An enclave that has not answered for so long does not: it may have much to do.
const ENCLAVE_PATIENCE: Duration = Duration::from_secs(30);

/// Writes whenever something has changed, for ever, and shows now and then that the host lives. The file has one writer at a time:
/// it waits until what a starting host says has come to its end.
pub(super) async fn write(shared: Arc<Shared>, starting: Starting) -> DaemonError {
    starting.end().await;
    let (answers, answered) = watch::channel(Answers { newest: None, failed: false, at: Instant::now() });
    tokio::select! {
        error = write_all(&shared, answered) => error,
        never = ask(&shared, answers) => match never {},
    }
}

/// What the enclave said of itself.
#[derive(Clone)]
struct Answers {
    newest: Option<Status>,
    /// Whether it was asked in vain since.
    failed: bool,
    /// When it last answered, or the host began.
    at: Instant,
}

impl Answers {
    /// Whether it answers, as was known at that time.
    fn are_fresh(&self, now: Instant) -> bool {
        let silence = now.saturating_duration_since(self.at);
        self.newest.is_some() && !self.failed && silence < ENCLAVE_PATIENCE
    }
}

/// Asks the enclave for ever. Apart from the file: one that takes a question and never answers is a trouble of its own.
async fn ask(shared: &Shared, answers: watch::Sender<Answers>) -> Infallible {
    loop {
        let mut changed = std::pin::pin!(shared.store.changed.notified());
        changed.as_mut().enable();
        let answer = shared.enclave.status().await;
        answers.send_modify(|answers| match answer {
            Ok(status) => *answers = Answers { newest: Some(status), failed: false, at: Instant::now() },
            Err(_) => answers.failed = true,
        });
        pause(changed, PAUSE).await;
    }
}

/// Waits until something has changed, but not for long.
async fn pause(changed: Pin<&mut Notified<'_>>, shortest: Duration) {
    tokio::time::sleep(shortest).await;
    tokio::select! {
        () = changed => {}
        () = tokio::time::sleep(LONGEST) => {}
    }
}

async fn write_all(shared: &Shared, mut answered: watch::Receiver<Answers>) -> DaemonError {
    let mut file = StatusFile::new(&shared.data_dir);
    let mut progress = Stuck::default();
    // What it says at once is worth to wait for, but not for long.
    let _ = tokio::time::timeout(LONGEST, answered.changed()).await;
    loop {
        let mut changed = std::pin::pin!(shared.store.changed.notified());
        changed.as_mut().enable();
        let answers = answered.borrow_and_update().clone();
        // Before the store is asked: how long that takes is not the enclave's silence.
        match status(shared, &answers, &mut progress, Instant::now()) {
            // Thousands of pools are megabytes.
            Ok(status) => blocking::run(|| file.write(status)),
            Err(error) => return error.into(),
        }
        tokio::select! {
            () = pause(changed, PAUSE) => {}
            Ok(()) = answered.changed() => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// The file, and what is in it.
struct StatusFile {
    path: PathBuf,
    /// What is in it, if this process has written it, and nothing has gone wrong since.
    written: Option<HostStatus>,
    /// When it was last written, or that was tried.
    replaced: Instant,
    /// When it was last written, or touched to show that the host lives.
    shown: Instant,
    /// Of what was last written, or was to be.
    size: u64,
}

impl StatusFile {
    fn new(data_dir: &Path) -> Self {
        let now = Instant::now();
        Self { path: data_dir.join(STATUS_FILE), written: None, replaced: now, shown: now, size: 0 }
    }

    /// Writes what is new, a large file not as often as a small one: what it says is as old as it takes to write so much at
    /// [`RATE`]. Between, the file's time says that the host lives. What could not be written has taken its time of the disk too.
    fn write(&mut self, status: HostStatus) {
        let is_new = self.written.as_ref() != Some(&status);
        let is_due = self.replaced.elapsed() >= time_to_write(self.size);
        let outcome = match is_new && is_due {
            true => self.replace(status),
            // A file that says what is no longer so shows by its time how old that is.
            false if self.written.is_some() && self.shown.elapsed() >= HEARTBEAT => self.touch(),
            false => return,
        };
        if let Err(error) = outcome {
            tracing::warn!(path = %self.path.display(), %error, "the status can't be written");
        }
    }

    fn replace(&mut self, status: HostStatus) -> io::Result<()> {
        let stamped = HostStatus {
            written_at: now(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..status.clone()
        };
        let text = serde_json::to_vec_pretty(&stamped)?;
        let outcome = whole_file::replace(&self.path, &text);
        (self.replaced, self.size) = (Instant::now(), text.len() as u64);
        self.written = outcome.is_ok().then_some(status);
        if outcome.is_ok() {
            self.shown = self.replaced;
        }
        outcome
    }

    fn touch(&mut self) -> io::Result<()> {
        // Somebody may have taken it away.
        let file = match File::options().write(true).open(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.written = None;
                return Ok(());
            }
            opened => opened?,
        };
        file.set_modified(SystemTime::now())?;
        self.shown = Instant::now();
        Ok(())
    }
}

/// What the host last knew of pools and the enclave. Thousands of pools are megabytes to read.
fn last_known(data_dir: &Path) -> HostStatus {
    blocking::run(|| crate::status::read(data_dir)).unwrap_or_default()
}

/// How long it takes to write so many bytes at [`RATE`].
fn time_to_write(size: u64) -> Duration {
    Duration::from_millis(size.saturating_mul(1000) / RATE)
}

/// The status of a host that does not serve yet: what it waits for, from its first moment on. It ends when the host serves, or when
/// it is dropped.
pub(super) struct Starting {
    said: Arc<Mutex<HostStatus>>,
    /// One task.
    writing: JoinSet<()>,
}

impl Starting {
    /// Begins to write. It says that the enclave was not reached until something else is to be said.
    pub(super) fn begin(config: &Config) -> Self {
        let said = Arc::new(Mutex::new(HostStatus {
            member: config.member.0,
            simulated: config.manifest.attestation.trust != Trust::Amd,
            enclave_answers: false,
            standing: "starting".to_owned(),
            alerts: alerts::all(&config.data_dir),
            troubles: Vec::new(),
            ..last_known(&config.data_dir)
        }));
        let (mut file, shown) = (StatusFile::new(&config.data_dir), Arc::clone(&said));
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            loop {
                let status = shown.lock().unwrap_or_else(PoisonError::into_inner).clone();
                blocking::run(|| file.write(status));
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { said, writing }
    }

    /// This is what it waits for, and nothing else.
    pub(super) fn waits_for(&self, subject: Subject, reason: impl Display) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let known = said.troubles.first().filter(|known| known.subject == subject);
        let since = known.map_or_else(now, |known| known.since);
        said.troubles = vec![Trouble { subject, since, reason: reason.to_string() }];
    }

    /// Says nothing more: when this returns, what was being written is written.
    async fn end(mut self) {
        self.writing.shutdown().await;
    }
}

/// Since when pools are at the step of a ceremony at which they are.
#[derive(Default)]
struct Stuck(BTreeMap<PoolId, (Progress, Instant)>);

impl Stuck {
    /// Pools that wait for statements, and have for so long as this.
    fn longer_than(
        &mut self,
        patience: Duration,
        progress: &BTreeMap<PoolId, Progress>,
        now: Instant,
    ) -> BTreeMap<PoolId, Progress> {
        self.0.retain(|pool, (known, _)| progress.get(pool) == Some(known));
        for (pool, step) in progress.iter().filter(|(_, step)| step.have < step.of) {
            self.0.entry(*pool).or_insert_with(|| (step.clone(), now));
        }
        let stuck = self.0.iter().filter(|(_, (_, since))| now.saturating_duration_since(*since) >= patience);
        stuck.map(|(pool, (step, _))| (*pool, step.clone())).collect()
    }
}

/// Why nothing goes on with a pool, if it is held up. What is begun for a pool that is over can't end, and need not: an enclave that was
/// away may still ask for its presign.
fn held_up(pool: &PoolStatus, stuck: &BTreeMap<PoolId, Progress>, patience: Duration) -> Option<String> {
    let Progress { kind, step, have, of } = stuck.get(&pool.pool_id).filter(|_| !pool.is_over())?;
    Some(format!("{have} of {of} at {kind} {step}, for more than {} s", patience.as_secs()))
}

/// What is known. `now` is when that of the enclave was.
fn status(
    shared: &Shared,
    answers: &Answers,
    stuck: &mut Stuck,
    now: Instant,
) -> Result<HostStatus, StoreError> {
    let mut pools = shared.store.pools()?;
    let news = shared.store.news();
    let stuck = stuck.longer_than(shared.patience, &news.progress, now);
    for pool in &mut pools {
        pool.progress = news.progress.get(&pool.pool_id).cloned();
        pool.faults.extend(news.faults.get(&pool.pool_id).into_iter().flatten());
        pool.faults.sort_unstable();
        pool.faults.dedup();
        pool.posts = shared.posts.of(pool.pool_id);
        let subject = Subject::Pool(pool.pool_id);
        shared.troubles.show(subject, held_up(pool, &stuck, shared.patience));
    }
    let (last, enclave_answers) = (&answers.newest, answers.are_fresh(now));
    shared.troubles.show(Subject::Enclave, (!enclave_answers).then_some("does not answer"));
    let lost = shared.network.lost();
    for member in shared.manifest.members.iter().map(|member| member.id) {
        let reason = lost.get(&member).map(|reason| format!("not reached: {reason}"));
        shared.troubles.show(Subject::Peer(member), reason);
    }
    let (admitted, refused) =
        last.as_ref().map(|last| (last.admitted.clone(), last.refused.clone())).unwrap_or_default();
    let enclave = last.as_ref().map(|last| (last.standing, last.head.number, last.incarnation, last.epoch));
    let (standing, log, incarnation, epoch) = enclave.unwrap_or((Standing::Idle, 0, 0, 0));
    let identity = last.as_ref().and_then(|last| last.identity);
    let refused = refused.into_iter().map(|RefusedMember { member, checks, cut_off }| Refused {
        member,
        cut_off,
        checks,
        reasons: news.reasons.get(&member).cloned().unwrap_or_default(),
    });
    Ok(HostStatus {
        member: shared.member.0,
        // What says when and by whom is added when it is written.
        written_at: 0,
        pid: 0,
        version: String::new(),
        simulated: shared.manifest.attestation.trust != Trust::Amd,
        enclave_answers,
        standing: standing.to_string(),
        log,
        incarnation,
        epoch,
        enclave: identity,
        fingerprint: identity.map(|identity| identity.fingerprint()),
        waiting: last.as_ref().and_then(|last| last.waiting.clone()),
        admitted,
        refused: refused.collect(),
        alerts: alerts::all(&shared.data_dir),
        troubles: shared.troubles.all(),
        pools,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blocking::tests::{GENEROUS, is_free, one_worker};
    use crate::chain::beacon::ValidatorStatus;
    use crate::status::TranscriptFiles;
    use crate::store::Store;
    use postern_shared::ids::{Address, MemberId};
    use postern_shared::record::LogHead;

    #[test]
    fn a_file_is_written_when_something_is_new_and_its_time_says_that_the_host_lives() {
        let folder = tempfile::tempdir().unwrap();
        let read = || crate::status::read(folder.path()).unwrap();
        let mut file = StatusFile::new(folder.path());
        file.write(HostStatus::default());
        assert_eq!((read().pid, read().version.as_str()), (std::process::id(), env!("CARGO_PKG_VERSION")));
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let age = || File::options().write(true).open(folder.path().join(STATUS_FILE)).unwrap();
        age().set_modified(long_ago).unwrap();
        file.write(HostStatus::default());
        let modified = || std::fs::metadata(folder.path().join(STATUS_FILE)).unwrap().modified().unwrap();
        assert_eq!(modified(), long_ago, "what is known is not written again");
        file.shown = file.shown.checked_sub(HEARTBEAT).unwrap();
        file.write(HostStatus::default());
        assert!(modified() > long_ago, "a host that has nothing new to say lives too");
        file.replaced = file.replaced.checked_sub(HEARTBEAT).unwrap();
        file.write(HostStatus { member: 1, ..HostStatus::default() });
        assert_eq!(read().member, 1);
        // A file of thirty megabytes is not written again at once, and shows meanwhile that the host lives.
        file.size = 30 * RATE;
        for _ in 0..2 {
            age().set_modified(long_ago).unwrap();
            file.shown = file.shown.checked_sub(HEARTBEAT).unwrap();
            file.replaced = file.replaced.checked_sub(HEARTBEAT).unwrap();
            file.write(HostStatus { member: 2, ..HostStatus::default() });
            assert!(read().member == 1 && modified() > long_ago);
        }
        file.replaced = file.replaced.checked_sub(HEARTBEAT).unwrap();
        file.write(HostStatus { member: 2, ..HostStatus::default() });
        assert_eq!(read().member, 2);
    }

    #[test]
    fn a_disk_takes_a_megabyte_a_second_of_files_of_any_size() {
        let milliseconds = |size| time_to_write(size).as_millis();
        let sizes = [0, RATE / 4, RATE - 1, RATE, RATE * 3 / 2];
        assert_eq!(sizes.map(milliseconds), [0, 250, 999, 1000, 1500]);
    }

    #[test]
    fn a_file_that_can_not_be_written_is_not_tried_more_often() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let mut file = StatusFile::new(&data_dir);
        let before = file.replaced.checked_sub(HEARTBEAT).unwrap();
        file.replaced = before;
        file.write(HostStatus::default());
        assert!(file.replaced > before && file.size > 0, "what was tried counts");
        std::fs::create_dir(&data_dir).unwrap();
        // As if it had been of thirty megabytes.
        file.size = 30 * RATE;
        file.write(HostStatus::default());
        assert!(!data_dir.join(STATUS_FILE).exists());
        file.replaced = file.replaced.checked_sub(HEARTBEAT * 3).unwrap();
        file.write(HostStatus::default());
        assert!(data_dir.join(STATUS_FILE).exists());
    }

    #[test]
    fn a_file_that_could_not_be_replaced_shows_its_age() {
        let folder = tempfile::tempdir().unwrap();
        // So long that there is no room for the name of an unfinished file.
        let path = folder.path().join("s".repeat(250));
        let mut file = StatusFile { path: path.clone(), ..StatusFile::new(folder.path()) };
        let old = File::create(&path).unwrap();
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        old.set_modified(long_ago).unwrap();
        file.written = Some(HostStatus::default());
        file.write(HostStatus { member: 1, ..HostStatus::default() });
        // As if it had been of thirty megabytes: it is not tried again yet.
        file.size = 30 * RATE;
        file.shown = file.shown.checked_sub(HEARTBEAT).unwrap();
        file.write(HostStatus { member: 1, ..HostStatus::default() });
        assert_eq!(old.metadata().unwrap().modified().unwrap(), long_ago);
    }

    #[test]
    fn a_disk_that_hangs_keeps_only_the_start_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(STATUS_FILE);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let (runtime, data_dir) = (one_worker(), folder.path().to_owned());
        let (begun, has_begun) = std::sync::mpsc::channel();
        let reading = runtime.spawn(async move {
            begun.send(()).unwrap();
            last_known(&data_dir)
        });
        has_begun.recv_timeout(GENEROUS).unwrap();
        let is_free = is_free(&runtime);
        // Whoever reads a pipe waits for somebody to write: nothing is there to be read.
        drop(File::options().write(true).open(&path).unwrap());
        assert_eq!(runtime.block_on(reading).unwrap(), HostStatus::default());
        assert!(is_free);
    }

    fn acting() -> Status {
        Status {
            identity: None,
            manifest: None,
            epoch: 0,
            admitted: Vec::new(),
            refused: Vec::new(),
            newest_output: 0,
            standing: Standing::Acting,
            incarnation: 0,
            head: LogHead::START,
            waiting: None,
            undecided: Vec::new(),
        }
    }

    #[test]
    fn an_enclave_is_silent_for_as_long_as_it_was_when_it_was_looked_at() {
        let at = Instant::now();
        let none = Answers { newest: None, failed: false, at };
        let answers = Answers { newest: Some(acting()), ..none.clone() };
        assert!(answers.are_fresh(at) && !answers.are_fresh(at + ENCLAVE_PATIENCE));
        assert!(!none.are_fresh(at) && !Answers { failed: true, ..answers }.are_fresh(at));
    }

    #[test]
    fn what_is_begun_for_a_pool_that_is_over_holds_nothing_up() {
        let mut pool = active(7);
        let step = Progress { kind: "presign".to_owned(), step: "deal".to_owned(), have: 2, of: 5 };
        let stuck = BTreeMap::from([(pool.pool_id, step)]);
        let patience = Duration::from_secs(600);
        let reason = held_up(&pool, &stuck, patience);
        assert_eq!(reason.unwrap(), "2 of 5 at presign deal, for more than 600 s");
        (pool.final_status, pool.exit_reported) = (Some(ValidatorStatus::WithdrawalDone), true);
        assert_eq!(held_up(&pool, &stuck, patience), None);
        assert_eq!(held_up(&active(8), &stuck, patience), None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn a_starting_host_has_written_its_last_word_when_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = StatusFile::new(folder.path());
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (begun, mut has_begun) = tokio::sync::mpsc::unbounded_channel();
        let mut writing = JoinSet::new();
        writing.spawn(async move {
            blocking::run(|| {
                begun.send(()).unwrap();
                // A slow disk.
                wait.recv_timeout(GENEROUS).unwrap();
                file.write(HostStatus::default());
            });
        });
        has_begun.recv().await.unwrap();
        let starting = Starting { said: Arc::default(), writing };
        let mut end = std::pin::pin!(starting.end());
        let at_once = tokio::time::timeout(Duration::ZERO, end.as_mut()).await;
        assert!(at_once.is_err(), "it is still being written");
        go_on.send(()).unwrap();
        end.await;
        assert!(folder.path().join(STATUS_FILE).exists());
    }

    /// How many bytes this process has written, and what memory it has, in bytes.
    fn used() -> (u64, u64) {
        let number = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).unwrap();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
            line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
        };
        (number("/proc/self/io", "wchar:"), number("/proc/self/status", "VmRSS:") * 1024)
    }

    /// As it is once its validator is active, with everything that is known by then.
    fn active(number: u32) -> PoolStatus {
        use postern_shared::bls::{PublicKey, Signature};
        use postern_shared::ethereum::{DepositData, DepositMessage, WithdrawalCredentials};
        let pool = PoolId::new(1, Address([1; 20]), number);
        let message = DepositMessage {
            pubkey: PublicKey([2; 48]),
            withdrawal_credentials: WithdrawalCredentials([3; 32]),
            amount: 32_000_000_000,
        };
        let file = |kind: &str| {
            Some(format!("/var/lib/postern/data/transcripts/{kind}-{}.json", pool.text()).into())
        };
        let transcripts = TranscriptFiles {
            keygen: file("keygen"),
            presign: file("presign"),
            ..TranscriptFiles::default()
        };
        PoolStatus {
            pubkey: Some(message.pubkey),
            deposit: Some(DepositData { message, signature: Signature([4; 96]) }),
            validator_index: Some(number.into()),
            deposit_requested: true,
            beacon_status: Some(ValidatorStatus::ActiveOngoing),
            final_status: Some(ValidatorStatus::ActiveOngoing),
            transcripts,
            ..PoolStatus::new(pool)
        }
    }

    /// Prints what a host with ten thousand pools writes while all of them change, and while none does, and what it takes of memory.
    #[test]
    #[ignore = "measures, for a minute; by hand, in release"]
    fn what_ten_thousand_pools_cost() {
        const SPAN: Duration = Duration::from_secs(20);
        let folder = tempfile::tempdir().unwrap();
        let (_, empty) = used();
        let place = crate::store::Place::Directory(folder.path().to_owned());
        let store = Store::open(&place).unwrap();
        let pools: Vec<PoolStatus> = (0..10_000).map(active).collect();
        for pool in &pools {
            store.change_pool(pool.pool_id, |status| *status = pool.clone()).unwrap();
        }
        let mut file = StatusFile::new(folder.path());
        // As the daemon does it: what changes, and what is shown of it.
        let run = |file: &mut StatusFile, changes: bool| {
            let (before, begun, mut changed) = (used().0, Instant::now(), 0);
            let mut shown = (0, 0);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for pool in pools.iter().cycle().take_while(|_| changes && begun.elapsed() < SPAN) {
                        store.change_pool(pool.pool_id, |status| status.faults.push(MemberId(1))).unwrap();
                        changed += 1;
                    }
                });
                while begun.elapsed() < SPAN {
                    let replaced = file.replaced;
                    file.write(HostStatus { pools: store.pools().unwrap(), ..HostStatus::default() });
                    if file.replaced != replaced {
                        shown = (shown.0 + 1, shown.1 + file.size);
                    }
                    std::thread::sleep(if changes { PAUSE } else { LONGEST });
                }
            });
            let (after, memory) = used();
            println!(
                "{changed} changes in {SPAN:?}: {} kB written, of that {} kB of the status in {} versions; {} MB of memory for it all",
                (after - before) / 1000,
                shown.1 / 1000,
                shown.0,
                (memory - empty) / 1_000_000
            );
        };
        run(&mut file, true);
        // What is new is shown, and then nothing is.
        std::thread::sleep(SPAN * 2);
        file.write(HostStatus { pools: store.pools().unwrap(), ..HostStatus::default() });
        run(&mut file, false);
    }

    #[test]
    fn a_pool_is_held_up_that_waits_at_one_step_for_long() {
        let pool = PoolId::new(1, Address([1; 20]), 7);
        let step = |have| Progress { kind: "keygen".to_owned(), step: "deal".to_owned(), have, of: 5 };
        let at = |have| BTreeMap::from([(pool, step(have))]);
        let (mut stuck, start) = (Stuck::default(), Instant::now());
        let patience = Duration::from_secs(600);
        assert_eq!(stuck.longer_than(patience, &at(2), start), BTreeMap::new());
        assert_eq!(stuck.longer_than(patience, &at(2), start + patience), at(2));
        // One more was heard: it goes on.
        assert_eq!(stuck.longer_than(patience, &at(3), start + patience), BTreeMap::new());
        assert_eq!(stuck.longer_than(patience, &at(3), start + patience * 2), at(3));
        assert_eq!(stuck.longer_than(patience, &at(5), start + patience * 9), BTreeMap::new());
        assert_eq!(stuck.longer_than(patience, &BTreeMap::new(), start + patience * 9), BTreeMap::new());
    }
}
