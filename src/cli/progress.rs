//! Progress of a run: bars on a terminal, plain lines otherwise, always on stderr.

use super::say;
use crate::train::{EpochRow, Now, Watch};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// A plain line is written when the last one is this old.
const PATIENCE: Duration = Duration::from_secs(20);

/// Shows a run to a person.
pub(super) struct Progress {
    bar: Option<ProgressBar>,
    terminal: bool,
    what: String,
    began: Instant,
    first: usize,
    said: Instant,
}

impl Progress {
    pub fn new() -> Self {
        let now = Instant::now();
        Progress { bar: None, terminal: std::io::stderr().is_terminal(), what: String::new(), began: now, first: 0, said: now }
    }
    /// Loss, accuracy, firing rate, as far as known.
    fn numbers(&self, now: &Now) -> String {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut parts = Vec::new();
        parts.extend(now.loss.map(|v| format!("loss {v:.4}")));
        parts.extend(now.accuracy.map(|v| format!("accuracy {:.1}%", 100.0 * v)));
        parts.extend(now.firing_rate.map(|v| format!("rate {:.1}%", 100.0 * v)));
        if now.done > self.first && seconds > 0.0 {
            parts.push(format!("{:.1} samples/s", (now.done - self.first) as f64 / seconds));
        }
        parts.join(", ")
    }
}

impl Watch for Progress {
    fn say(&mut self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| say(line)),
            None => say(line),
        }
    }
    fn begin(&mut self, what: &str, now: &Now) {
        self.what = what.to_string();
        self.began = Instant::now();
        self.said = self.began;
        self.first = now.done;
        if self.terminal {
            let bar = ProgressBar::with_draw_target(Some(now.total as u64), ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template("{prefix} [{bar:24}] {pos}/{len} {msg} {eta} left") {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix(self.what.clone());
            bar.set_position(now.done as u64);
            // What a resumed epoch did before does not count for the time left.
            bar.reset_eta();
            self.bar = Some(bar);
        }
    }
    fn step(&mut self, now: &Now) {
        let numbers = self.numbers(now);
        if let Some(bar) = &self.bar {
            bar.set_message(numbers);
            bar.set_position(now.done as u64);
        } else if self.said.elapsed() > PATIENCE {
            self.said = Instant::now();
            let rate = (now.done - self.first) as f64 / self.began.elapsed().as_secs_f64();
            let left = (now.total - now.done.min(now.total)) as f64 / rate.max(1e-9);
            say(&format!("{}: {}/{}, {numbers}, {left:.0} s left", self.what, now.done, now.total));
        }
    }
    fn end(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
    fn epoch(&mut self, r: &EpochRow) {
        let router = r.router_firing_rate.map(|v| format!(", router {:.1}%", 100.0 * v)).unwrap_or_default();
        let validation = match (r.val_accuracy, r.val_loss) {
            (Some(accuracy), Some(loss)) => format!("validation {:.1}% (loss {loss:.4}), ", 100.0 * accuracy),
            _ => String::new(),
        };
        let per_epoch = r.seconds / r.epoch.max(1) as f64;
        let left = per_epoch * (r.epochs - r.epoch.min(r.epochs)) as f64;
        say(&format!(
            "epoch {}/{}: loss {:.4}, accuracy {:.1}%, {validation}rate {:.1}%{router}, {:.1} samples/s, {:.2} s waiting for data, {:.0} s, {left:.0} s left{}",
            r.epoch,
            r.epochs,
            r.train_loss,
            100.0 * r.train_accuracy,
            100.0 * r.firing_rate,
            r.samples_per_second,
            r.seconds_waiting_for_data,
            r.seconds,
            if r.best && r.val_loss.is_some() { ", best so far" } else { "" },
        ));
    }
}
