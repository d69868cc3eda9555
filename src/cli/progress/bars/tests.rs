//! What is on the screen while a run goes on, and what stays of it.
#![allow(clippy::unwrap_used)]

use std::io;

use indicatif::TermLike;

use super::*;
use crate::engine::event::{Summary, TaskCounts};

/// A terminal of 40 columns and 8 rows that keeps all lines, also those that moved out at its top.
#[derive(Debug, Default, Clone)]
struct Terminal(Arc<Mutex<Shown>>);

#[derive(Debug, Default)]
struct Shown {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

const COLUMNS: usize = 40;
const ROWS: usize = 8;

impl Terminal {
    fn text(&self) -> String {
        let shown = self.0.lock().unwrap();
        let lines = shown.lines.iter().map(|line| line.iter().collect::<String>());
        let lines: Vec<String> = lines.map(|line| line.trim_end().to_owned()).collect();
        lines.join("\n").trim_end().to_owned()
    }

    fn with(&self, change: impl FnOnce(&mut Shown)) -> io::Result<()> {
        change(&mut self.0.lock().unwrap());
        Ok(())
    }
}

impl Shown {
    fn put(&mut self, character: char) {
        if character == '\n' || self.column == COLUMNS {
            (self.row, self.column) = (self.row + 1, 0);
        }
        if character == '\r' {
            self.column = 0;
        }
        if character.is_control() {
            return;
        }
        while self.lines.len() <= self.row {
            self.lines.push(Vec::new());
        }
        let line = &mut self.lines[self.row];
        line.resize(line.len().max(self.column + 1), ' ');
        line[self.column] = character;
        self.column += 1;
    }
}

impl TermLike for Terminal {
    fn width(&self) -> u16 {
        COLUMNS as u16
    }
    fn height(&self) -> u16 {
        ROWS as u16
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.with(|shown| shown.row = shown.row.saturating_sub(n))
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.with(|shown| shown.row += n)
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.with(|shown| shown.column = (shown.column + n).min(COLUMNS))
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.with(|shown| shown.column = shown.column.saturating_sub(n))
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(&format!("{text}\n"))
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        if text == "\u{1b}[K" {
            return self.with(|shown| {
                let (row, column) = (shown.row, shown.column);
                shown.lines[row].truncate(column);
            });
        }
        self.with(|shown| text.chars().for_each(|character| shown.put(character)))
    }
    fn clear_line(&self) -> io::Result<()> {
        self.with(|shown| {
            let row = shown.row;
            if let Some(line) = shown.lines.get_mut(row) {
                line.clear();
            }
            shown.column = 0;
        })
    }
    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

fn bars(stages: &[(&str, u64)]) -> (Bars, Terminal) {
    let terminal = Terminal::default();
    let state = |tasks| StageState {
        tasks,
        ..StageState::default()
    };
    let states = stages.iter().map(|(name, tasks)| ((*name).to_owned(), state(*tasks)));
    let screen = Screen::new(terminal.clone(), 255, || (COLUMNS, ROWS), states.collect());
    (Bars(Arc::new(screen)), terminal)
}

fn started(stage: &str) -> Event {
    Event::Started {
        task: format!("{stage}[1]"),
        stage: stage.to_owned(),
    }
}

fn finished(stage: &str) -> Event {
    Event::Finished {
        task: format!("{stage}[1]"),
        stage: stage.to_owned(),
        rows: 3,
        seconds: 0.1,
    }
}

fn done(total: u64) -> Event {
    let tasks = TaskCounts {
        total,
        ..TaskCounts::default()
    };
    let summary = Summary {
        tasks,
        ..Summary::default()
    };
    Event::Done { summary }
}

#[test]
fn what_is_over_stays_once_and_the_summary_is_last() {
    let (bars, terminal) = bars(&[("texts", 1), ("a-stage-with-a-long-name", 2), ("later", 1)]);
    let left = [("texts", 1), ("a-stage-with-a-long-name", 2), ("later", 1)];
    bars.event(&Event::Planned {
        total: 4,
        cached: 0,
        left: left.map(|(name, count)| (name.to_owned(), count)).into(),
    });
    bars.event(&started("texts"));
    assert_eq!(terminal.text(), "texts        ────── 0 of 1 task");
    bars.event(&finished("texts"));
    bars.event(&started("a-stage-with-a-long-name"));
    bars.event(&finished("a-stage-with-a-long-name"));
    assert_eq!(
        terminal.text(),
        "texts        1 task, 0.0 s\na-stage-wit… ━━━─── 1 of 2 tasks"
    );
    bars.event(&Event::Note {
        task: None,
        message: "a word that is said meanwhile, longer than a line".to_owned(),
    });
    bars.event(&Event::Failed {
        task: "a-stage-with-a-long-name[2]".to_owned(),
        stage: "a-stage-with-a-long-name".to_owned(),
        message: "it failed".to_owned(),
        causes: Vec::new(),
        hint: None,
    });
    bars.event(&done(4));
    drop(bars);
    assert_eq!(
        terminal.text(),
        "texts        1 task, 0.0 s\n\
         a word that is said meanwhile, longer th\n\
         an a line\n\
         failed: it failed\n\
         a-stage-wit… 1/2, 1 failed, 0.0 s\n\
         4 tasks: 0 ran, 0 cached; 0.0 s"
    );
}

#[test]
fn more_stages_than_rows_leave_nothing_behind() {
    let names: Vec<String> = (0..20).map(|number| format!("s{number:02}")).collect();
    let stages: Vec<(&str, u64)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let (bars, terminal) = bars(&stages);
    for name in &names {
        bars.event(&started(name));
    }
    assert_eq!(terminal.text().lines().count(), ROWS - 2);
    for name in names.iter().rev() {
        bars.event(&finished(name));
    }
    bars.event(&done(20));
    let text = terminal.text();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 21, "{text}");
    assert!(
        lines[..20].iter().all(|line| line.ends_with(" 1 task, 0.0 s")),
        "{text}"
    );
    assert!(lines[20].starts_with("20 tasks:"), "{text}");
}

#[test]
fn a_task_that_is_done_again_is_counted_again() {
    let (bars, terminal) = bars(&[("s", 1)]);
    for event in [started("s"), finished("s"), started("s"), finished("s"), done(1)] {
        bars.event(&event);
    }
    assert_eq!(
        terminal.text(),
        "s 1 task, 0.0 s\ns 2 tasks, 0.0 s\n1 task: 0 ran, 0 cached; 0.0 s"
    );
}

#[test]
fn what_the_terminal_echoes_leaves_nothing_behind() {
    let (bars, terminal) = bars(&[("one", 1), ("two", 1)]);
    bars.event(&started("one"));
    bars.event(&started("two"));
    terminal
        .with(|shown| "^C".chars().for_each(|character| shown.put(character)))
        .unwrap();
    bars.event(&Event::Note {
        task: None,
        message: "interrupted".to_owned(),
    });
    assert_eq!(
        terminal.text(),
        "interrupted\none ────── 0 of 1 task\ntwo ────── 0 of 1 task"
    );
    bars.event(&done(2));
    // What is printed next is on a line of its own.
    terminal.write_str("next").unwrap();
    assert_eq!(
        terminal.text(),
        "interrupted\none 0 of 1 task, 0.0 s\ntwo 0 of 1 task, 0.0 s\n2 tasks: 0 ran, 0 cached; 0.0 s\nnext"
    );
}
