//! The terminal below the lines that are redrawn.
//!
//! indicatif fills the last line with blanks, so that whatever is printed next is on a line of its own. A terminal writes
//! `^C` there, which then moves everything by a line that nobody counts, and the old lines stay. So the blanks at the end
//! are left out while lines are redrawn.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::TermLike;

/// A terminal that leaves out the last blanks while lines are `open`.
#[derive(Debug)]
pub struct Short<T> {
    terminal: T,
    open: Arc<AtomicUsize>,
    /// Blanks that nothing follows yet.
    blanks: Mutex<usize>,
}

impl<T: TermLike> Short<T> {
    /// Writes to a terminal; `open` is how many lines are redrawn.
    pub fn new(terminal: T, open: Arc<AtomicUsize>) -> Self {
        Self {
            terminal,
            open,
            blanks: Mutex::new(0),
        }
    }

    fn blanks(&self, change: impl FnOnce(usize) -> usize) -> usize {
        let mut blanks = self.blanks.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *blanks;
        *blanks = change(before);
        before
    }

    /// Writes the blanks that something follows.
    fn catch_up(&self) -> io::Result<()> {
        match self.blanks(|_| 0) {
            0 => Ok(()),
            count => self.terminal.write_str(&" ".repeat(count)),
        }
    }
}

impl<T: TermLike> TermLike for Short<T> {
    fn width(&self) -> u16 {
        self.terminal.width()
    }
    fn height(&self) -> u16 {
        self.terminal.height()
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.catch_up()?;
        self.terminal.move_cursor_up(n)
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.catch_up()?;
        self.terminal.move_cursor_down(n)
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.catch_up()?;
        self.terminal.move_cursor_right(n)
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.catch_up()?;
        self.terminal.move_cursor_left(n)
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.catch_up()?;
        self.terminal.write_line(text)
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        if text.bytes().all(|byte| byte == b' ') {
            self.blanks(|blanks| blanks + text.len());
            return Ok(());
        }
        self.catch_up()?;
        self.terminal.write_str(text)
    }
    fn clear_line(&self) -> io::Result<()> {
        self.catch_up()?;
        self.terminal.clear_line()
    }
    fn flush(&self) -> io::Result<()> {
        match self.open.load(Ordering::Relaxed) {
            0 => self.catch_up()?,
            // The rest of the line is what was there before.
            _ if self.blanks(|_| 0) > 0 => self.terminal.write_str("\u{1b}[K")?,
            _ => {}
        }
        self.terminal.flush()
    }
}

/// stderr, written to once a picture.
#[derive(Debug, Default)]
pub struct Stderr(Mutex<String>);

impl Stderr {
    fn put(&self, text: std::fmt::Arguments<'_>) -> io::Result<()> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.write_fmt(text).map_err(io::Error::other)
    }

    fn step(&self, n: usize, way: char) -> io::Result<()> {
        match n {
            0 => Ok(()),
            n => self.put(format_args!("\u{1b}[{n}{way}")),
        }
    }
}

impl TermLike for Stderr {
    fn width(&self) -> u16 {
        u16::try_from(size().0).unwrap_or(u16::MAX)
    }
    fn height(&self) -> u16 {
        u16::try_from(size().1).unwrap_or(u16::MAX)
    }
    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.step(n, 'A')
    }
    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.step(n, 'B')
    }
    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.step(n, 'C')
    }
    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.step(n, 'D')
    }
    fn write_line(&self, text: &str) -> io::Result<()> {
        self.put(format_args!("{text}\n"))
    }
    fn write_str(&self, text: &str) -> io::Result<()> {
        self.put(format_args!("{text}"))
    }
    fn clear_line(&self) -> io::Result<()> {
        self.put(format_args!("\r\u{1b}[2K"))
    }
    fn flush(&self) -> io::Result<()> {
        let text = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut out = io::stderr().lock();
        out.write_all(text.as_bytes())?;
        out.flush()
    }
}

/// Columns and rows of the terminal on stderr.
pub fn size() -> (usize, usize) {
    rustix::termios::tcgetwinsize(io::stderr()).map_or((80, 24), |size| {
        // A terminal that does not know says 0.
        let or = |told: u16, usual: usize| if told == 0 { usual } else { usize::from(told) };
        (or(size.ws_col, 80).max(20), or(size.ws_row, 24).max(3))
    })
}
