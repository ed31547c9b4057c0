//! What each loop last did, as typed values: last run, duration, due, done, failed. Read by the API, metrics and `doctor`.

use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Mutex;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LoopStatus {
    pub last_run_at: Option<Timestamp>,
    pub last_duration_ms: u64,
    pub runs: u64,
    /// Rows taken in all runs.
    pub taken: u64,
    pub done: u64,
    pub failed: u64,
    pub last_error: Option<String>,
}

/// The statuses of all loops of this process, by name.
#[derive(Debug, Default)]
pub struct Board {
    loops: Mutex<BTreeMap<&'static str, LoopStatus>>,
}

impl Board {
    pub fn snapshot(&self) -> BTreeMap<&'static str, LoopStatus> {
        self.lock().clone()
    }

    pub(crate) fn ran(&self, name: &'static str, at: Timestamp, duration_ms: u64, taken: u64) {
        let mut loops = self.lock();
        let status = loops.entry(name).or_default();
        status.last_run_at = Some(at);
        status.last_duration_ms = duration_ms;
        status.runs += 1;
        status.taken += taken;
    }

    pub(crate) fn done(&self, name: &'static str) {
        self.lock().entry(name).or_default().done += 1;
    }

    pub(crate) fn failed(&self, name: &'static str, error: &str) {
        let mut loops = self.lock();
        let status = loops.entry(name).or_default();
        status.failed += 1;
        status.last_error = Some(error.to_owned());
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, LoopStatus>> {
        self.loops.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
