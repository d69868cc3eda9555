//! Errors as people and programs read them, and the exit codes.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use fracture_language::{Diagnostic, Diagnostics, Location};
use fracture_stage::{Error, ErrorKind};
use serde_json::{Value, json};

/// The exit codes of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything is done.
    Done = 0,
    /// A task failed, or the store did.
    Failed = 1,
    /// The pipeline or the command line is wrong.
    Usage = 2,
    /// `--check` or `--locked` found a difference.
    Different = 3,
    /// The user stopped it.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// The pipeline is wrong, at these places.
    Pipeline(Diagnostics),
    /// Something else.
    Error(Error),
    /// What was to be said was said.
    Told(Exit),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<Diagnostics> for Failure {
    fn from(diagnostics: Diagnostics) -> Self {
        Self::Pipeline(diagnostics)
    }
}

impl From<Diagnostic> for Failure {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Pipeline(Diagnostics(vec![diagnostic]))
    }
}

impl Failure {
    /// Prints the failure to stderr and gives the exit code.
    pub fn report(self, json: bool) -> Exit {
        match self {
            Self::Told(exit) => exit,
            Self::Pipeline(diagnostics) => {
                if json {
                    diagnostics.to_json().iter().for_each(|line| eprintln!("{line}"));
                } else {
                    anstream::eprintln!("{}", diagnostics.render(color()).trim_end());
                }
                exit_code(diagnostics.kind())
            }
            Self::Error(error) => {
                if json {
                    eprintln!("{}", error_json(&error, None));
                } else {
                    anstream::eprint!("{}", error_text(&error));
                }
                exit_code(error.kind)
            }
        }
    }
}

/// The exit code of a kind of error.
pub fn exit_code(kind: ErrorKind) -> Exit {
    match kind {
        ErrorKind::Pipeline | ErrorKind::Input => Exit::Usage,
        ErrorKind::Task | ErrorKind::Store | ErrorKind::Environment | ErrorKind::Internal => Exit::Failed,
        ErrorKind::Interrupted => Exit::Interrupted,
    }
}

/// Whether stderr takes colour: a terminal, and no NO_COLOR.
pub fn color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// An error as people read it.
pub fn error_text(error: &Error) -> String {
    let (bold, red, cyan, reset) = if color() {
        ("\x1b[1m", "\x1b[1;31m", "\x1b[1;36m", "\x1b[0m")
    } else {
        ("", "", "", "")
    };
    let mut text = format!("{red}error{reset}{bold}: {}{reset}\n", printable(&error.message));
    for cause in error.causes.iter().filter(|cause| !cause.is_empty()) {
        text.push_str(&format!("  caused by: {}\n", printable(cause)));
    }
    if let Some(hint) = &error.hint {
        text.push_str(&format!("  {cyan}hint{reset}: {}\n", printable(hint)));
    }
    text
}

/// An error as programs read it, with the place of the pipeline that it is about.
pub fn error_json(error: &Error, at: Option<&Location>) -> Value {
    let at = at.map(|at| json!({ "file": at.file, "line": at.line, "column": at.column }));
    json!({ "error": {
        "kind": error.kind.name(), "message": error.message, "causes": error.causes, "hint": error.hint, "at": at,
    } })
}

/// What is wrong with the command line, as programs read it.
pub fn usage_json(error: &clap::Error) -> Value {
    let text = error.render().to_string();
    let mut paragraphs = text
        .split("\n\n")
        .map(str::trim)
        .filter(|paragraph| !paragraph.is_empty());
    let message = paragraphs.next().unwrap_or_default();
    let message = message.strip_prefix("error: ").unwrap_or(message);
    let tip = paragraphs.find_map(|paragraph| paragraph.strip_prefix("tip: "));
    let hint = tip.unwrap_or("`fracture --help` lists the commands, `fracture COMMAND --help` what each takes");
    json!({ "error": {
        "kind": ErrorKind::Pipeline.name(), "message": message, "causes": [], "hint": hint, "at": null,
    } })
}

/// Text without the control characters that a terminal would obey: completions and file names are data.
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}
