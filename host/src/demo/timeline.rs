//! What people see: a line for each thing that happened; on a terminal a bar for each pool below.

use super::milestones::Milestone;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use postern_shared::ids::PoolId;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows the run.
pub(super) struct Timeline {
    started: Instant,
    /// With `--json`, standard output is for the result: people read standard error.
    to_stderr: bool,
    bars: Option<MultiProgress>,
    pools: Vec<(PoolId, ProgressBar)>,
}

impl Timeline {
    /// From now on.
    pub(super) fn new(json: bool) -> Self {
        let terminal = if json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        let target = if json { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::stdout() };
        let bars = terminal.then(|| MultiProgress::with_draw_target(target));
        Self { started: Instant::now(), to_stderr: json, bars, pools: Vec::new() }
    }

    /// Since the beginning.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Shows a bar for each pool, where there is a terminal.
    pub(super) fn add_pools(&mut self, pools: &[PoolId]) {
        let Some(bars) = &self.bars else { return };
        let style = ProgressStyle::with_template("{prefix:>8} [{bar:24}] {pos}/{len} {wide_msg}");
        for pool in pools.iter().copied() {
            let bar = bars.add(ProgressBar::new(Milestone::ALL.len() as u64));
            if let Ok(style) = &style {
                bar.set_style(style.clone().progress_chars("=> "));
            }
            bar.set_prefix(short(pool));
            self.pools.push((pool, bar));
        }
    }

    /// A line with the time.
    pub(super) fn say(&self, text: impl AsRef<str>) {
        let line = format!("{:7.2} s  {}", self.elapsed().as_secs_f64(), text.as_ref());
        self.print(&line);
    }

    /// A line as it is.
    pub(super) fn print(&self, line: &str) {
        // A reader who has gone (`postern demo | head`) is no reason to fail.
        let _ = match &self.bars {
            Some(bars) => bars.println(line),
            None if self.to_stderr => writeln!(std::io::stderr(), "{line}"),
            None => writeln!(std::io::stdout(), "{line}"),
        };
    }

    /// A pool reached a milestone, its so-many-th.
    pub(super) fn reached(&self, pool: PoolId, milestone: Milestone, count: usize) {
        self.say(format!("{}: {}", short(pool), milestone.describe()));
        if let Some(bar) = self.bar(pool) {
            bar.set_position(count as u64);
        }
    }

    /// What a pool is at now; on terminals only.
    pub(super) fn at(&self, pool: PoolId, text: String) {
        if let Some(bar) = self.bar(pool) {
            bar.set_message(text);
        }
    }

    /// Takes the bars away.
    pub(super) fn finish(&self) {
        for (_, bar) in &self.pools {
            bar.finish_and_clear();
        }
    }

    fn bar(&self, pool: PoolId) -> Option<&ProgressBar> {
        self.pools.iter().find(|(of, _)| *of == pool).map(|(_, bar)| bar)
    }
}

/// There is one contract in a demo, which the timeline has named.
fn short(pool: PoolId) -> String {
    format!("pool {}", pool.number)
}
