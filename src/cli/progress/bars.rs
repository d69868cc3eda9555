//! Progress on a terminal: one line for each stage that is at work, redrawn in place. What is over moves up and stays, so
//! that the run's last word is the last line.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use fracture_language::Pipeline;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use super::line::{cut, name_width, over, room, working};
use super::state::{StageState, stages};
use super::terminal::{Short, Stderr, size};
use super::{fetch_text, said, size_text, summary_text};
use crate::cli::failure::printable;
use crate::engine::event::{Event, Sink};

/// How often a line is drawn again whose stage says nothing.
const TICK: Duration = Duration::from_millis(500);

/// The reader of events that draws on a terminal.
pub struct Bars(Arc<Screen>);

impl Bars {
    /// Nothing is drawn until a stage starts.
    pub fn new(pipeline: &Pipeline) -> Self {
        let screen = Arc::new(Screen::new(Stderr::default(), 10, size, stages(pipeline)));
        let seen = Arc::downgrade(&screen);
        std::thread::spawn(move || tick(&seen));
        Self(screen)
    }
}

/// Draws the lines again until nobody is there to be told.
fn tick(seen: &Weak<Screen>) {
    loop {
        std::thread::sleep(TICK);
        let Some(screen) = seen.upgrade() else { return };
        let size = (screen.size)();
        for (name, stage) in screen.stages().iter_mut() {
            screen.draw(name, stage, size);
        }
    }
}

/// A stage and its line.
#[derive(Default)]
struct Stage {
    state: StageState,
    /// When its first task began.
    began: Option<Instant>,
    bar: Option<ProgressBar>,
    /// What was drawn last.
    drawn: String,
}

impl Stage {
    fn took(&self) -> Duration {
        self.began.map(|began| began.elapsed()).unwrap_or_default()
    }
}

/// What is on the screen.
struct Screen {
    bars: MultiProgress,
    /// Lines that are redrawn.
    open: Arc<AtomicUsize>,
    /// Its columns and rows now.
    size: fn() -> (usize, usize),
    /// The longest name of a stage.
    longest: usize,
    stages: Mutex<BTreeMap<String, Stage>>,
    files: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Screen {
    /// Draws so often a second at most.
    fn new(
        terminal: impl TermLike + 'static,
        often: u8,
        size: fn() -> (usize, usize),
        states: BTreeMap<String, StageState>,
    ) -> Self {
        let open = Arc::new(AtomicUsize::new(0));
        let terminal = Box::new(Short::new(terminal, Arc::clone(&open)));
        let target = ProgressDrawTarget::term_like_with_hz(terminal, often);
        let longest = states.keys().map(|name| name.chars().count()).max();
        let stage = |state| Stage {
            state,
            ..Stage::default()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            open,
            size,
            longest: longest.unwrap_or(0),
            stages: Mutex::new(states.into_iter().map(|(name, state)| (name, stage(state))).collect()),
            files: Mutex::default(),
        }
    }

    fn stages(&self) -> MutexGuard<'_, BTreeMap<String, Stage>> {
        self.stages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A line above those that are redrawn.
    fn say(&self, text: &str) {
        let _ = self.bars.println(text);
    }

    fn line(&self) -> ProgressBar {
        self.open.fetch_add(1, Ordering::Relaxed);
        let style = ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
        self.bars.add(ProgressBar::new(1).with_style(style))
    }

    fn remove(&self, bar: &ProgressBar) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        bar.finish_and_clear();
        self.bars.remove(bar);
    }

    fn draw(&self, name: &str, stage: &mut Stage, (columns, _): (usize, usize)) {
        let Some(bar) = &stage.bar else { return };
        let width = name_width(self.longest, columns);
        let line = working(name, width, &stage.state, stage.took(), columns);
        if line != stage.drawn {
            bar.set_message(line.clone());
            stage.drawn = line;
        }
    }

    /// Notes what a stage did. It has a line while it is at work, if the screen is high enough.
    fn show(&self, name: &str, change: impl FnOnce(&mut StageState)) {
        let size = (self.size)();
        let mut stages = self.stages();
        let open = stages.values().filter(|stage| stage.bar.is_some()).count();
        let Some(stage) = stages.get_mut(name) else { return };
        change(&mut stage.state);
        stage.began.get_or_insert_with(Instant::now);
        if stage.state.is_over() {
            self.close(name, stage, size);
            return;
        }
        if stage.bar.is_none() && open + 2 < size.1 {
            stage.bar = Some(self.line());
            stage.drawn.clear();
        }
        self.draw(name, stage, size);
    }

    /// Takes a stage's line away and says what it came to.
    fn close(&self, name: &str, stage: &mut Stage, (columns, _): (usize, usize)) {
        if let Some(bar) = stage.bar.take() {
            self.remove(&bar);
        }
        let width = name_width(self.longest, columns);
        if stage.began.is_some() {
            self.say(&over(name, width, &stage.state, stage.took(), columns));
        }
        stage.began = None;
    }

    /// The run is over: what is not done is told, too.
    fn end(&self) {
        let size = (self.size)();
        for (name, stage) in self.stages().iter_mut() {
            self.close(name, stage, size);
        }
    }

    /// A line for a file that comes from a hub, gone when it is whole.
    fn fetch(&self, source: &str, file: &str, done: u64, total: u64) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let key = format!("{source} {file}");
        if done < total {
            let bar = files.entry(key.clone()).or_insert_with(|| {
                let bar = self.line();
                bar.set_length(total);
                bar
            });
            bar.set_position(done);
            let speed = size_text(bar.per_sec() as u64);
            let (done, total) = (size_text(done), size_text(total));
            let begin = format!("{done} of {total}, {speed}/s, ");
            let name = cut(&printable(&key), room((self.size)().0, &begin));
            bar.set_message(begin + &name);
        } else {
            if let Some(bar) = files.remove(&key) {
                self.remove(&bar);
            }
            self.say(&fetch_text(source, file, done, total));
        }
    }
}

impl Sink for Bars {
    fn event(&self, event: &Event) {
        let screen = &self.0;
        match event {
            Event::Planned { left, .. } => {
                for (name, stage) in screen.stages().iter_mut() {
                    stage.state.tasks = left.get(name).copied().unwrap_or(0);
                }
            }
            Event::Rows {
                stage,
                rows,
                reused,
                unit,
                ..
            } => screen.show(stage, |state| state.rows_arrive(*rows, *reused, unit)),
            Event::Progress { stage, rows, units } => screen.show(stage, |state| state.progress(*rows, *units)),
            Event::Fetch {
                source,
                file,
                done,
                total,
            } => screen.fetch(source, file, *done, *total),
            Event::Started { stage, .. } => screen.show(stage, StageState::begin),
            Event::Cached { stage, .. } => screen.show(stage, |state| {
                state.done += 1;
                state.adopted += 1;
            }),
            Event::Finished { stage, .. } => screen.show(stage, |state| state.done += 1),
            Event::Failed { stage, .. } => {
                screen.say(&said(event).unwrap_or_default());
                screen.show(stage, |state| state.failed += 1);
            }
            Event::Done { summary } => {
                screen.end();
                screen.say(&summary_text(summary));
            }
            other => {
                if let Some(text) = said(other) {
                    screen.say(&text);
                }
            }
        }
    }
}

impl Drop for Bars {
    /// An error is told below nothing that looks as if it were still at work.
    fn drop(&mut self) {
        let _ = self.0.bars.clear();
    }
}

#[cfg(test)]
mod tests;
