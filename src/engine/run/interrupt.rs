//! Interruptions: Ctrl-C, and what asks a process to end or tells it that its terminal is gone. The first one lets what is
//! in flight finish, the second stops at once, whatever the dispatcher is doing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use fracture_stage::{Error, ErrorKind};
use tokio::signal::unix::{SignalKind, signal};

use super::{Dispatcher, Message, Status};

impl Dispatcher<'_> {
    /// Listens for interruptions.
    pub(super) fn listen(&self) -> Result<(), Error> {
        let mut kinds = vec![SignalKind::interrupt(), SignalKind::terminate()];
        if !hangup_is_ignored() {
            kinds.push(SignalKind::hangup());
        }
        for kind in kinds {
            let mut signals = signal(kind)
                .map_err(|error| Error::new(ErrorKind::Environment, "can not listen for Ctrl-C").cause(error))?;
            let (cancelled, sender) = (Arc::clone(&self.cancelled), self.sender.clone());
            let stop_at_once = self.options.stop_at_once;
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    if cancelled.swap(true, Ordering::Relaxed) {
                        stop_at_once();
                        std::process::exit(130);
                    }
                    let _ = sender.send(Message::Interrupted);
                }
            });
        }
        Ok(())
    }

    /// Lets what is not begun be.
    pub(super) fn interrupted(&mut self) {
        self.note(
            None,
            "interrupted: finishing the rows in flight, stopping programs (once more stops at once)",
        );
        self.groups.values().for_each(|group| group.queue.clear());
        for id in std::mem::take(&mut self.ready) {
            self.status[id.0 as usize] = Status::Waiting;
        }
    }
}

/// Whether the process was started so that it outlives its terminal, as by `nohup`: listening would undo that. `false` where
/// that can not be told.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // A mask in hexadecimal; SIGHUP is its lowest bit.
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & 1 == 1))
}
