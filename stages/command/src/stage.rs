//! The stage kind `command` as the compiler and the engine see it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use fracture_stage::{
    Context, Declaration, Error, ErrorKind, FileUse, Files, Inputs, Kind, Manifest, Open, Output, Outputs, Port,
    Product, Role, Schema, Schemas, Shape, Stage, Whole, Work,
};
use serde_json::json;

use crate::parameters::{Argument, CommandShape, Parameters, TableFormat};
use crate::process::{self, Ending, Program};
use crate::quote::Passed;
use crate::running::Place;
use crate::{files, input, mapped, output};

const KIND: Kind = Kind {
    name: "command",
    version: 1,
};

/// How the kind declares itself.
pub fn declaration() -> Declaration {
    Declaration {
        name: KIND.name,
        version: KIND.version,
        summary: "Runs your own program: it reads $IN/PORT.arrow and writes $OUT/main.{arrow,parquet,csv,jsonl}.",
        shape: Shape::Either,
        ports: &[],
        any_ports: true,
        side: &[],
        cases: false,
        spread: None,
        parameters: || schemars::schema_for!(Parameters).to_value(),
        build: |with, _context: &Context| {
            Ok(Box::new(Command {
                parameters: Parameters::read(with)?,
            }))
        },
    }
}

/// A resolved `command` task.
#[derive(Debug, Clone)]
struct Command {
    parameters: Parameters,
}

impl Stage for Command {
    fn kind(&self) -> Kind {
        KIND
    }

    /// None by name: whatever is connected is read whole.
    fn ports(&self) -> Vec<Port> {
        Vec::new()
    }

    fn resolve(&self, files: &dyn Files) -> Result<Vec<FileUse>, Error> {
        files::uses(&self.parameters.files, files)
    }

    fn schema(&self, inputs: &Schemas, _files: &dyn Files) -> Result<Outputs<Schema>, Error> {
        input::check_ports(inputs.ports.iter().map(|(port, _)| port.as_str()))?;
        let Parameters { yields, keys, .. } = &self.parameters;
        if self.parameters.shape == CommandShape::Reduce {
            return Ok(Outputs::only(fracture_stage::yields::schema(yields.as_ref(), keys)?));
        }
        let [(port, _)] = inputs.ports.as_slice() else {
            let ports = inputs.ports.len();
            return Err(
                Error::pipeline(format!("`shape: map` adds columns to one table, and {ports} arrive"))
                    .parameter(&["shape"])
                    .hint("join tables by a `query` stage first, or leave `shape` out"),
            );
        };
        // The input's own columns may tell rows apart as well.
        let input = inputs.first(port)?;
        let new: Vec<String> = keys.iter().filter(|key| !input.may_have(key)).cloned().collect();
        let schema = fracture_stage::yields::schema(yields.as_ref(), &new)?;
        Ok(Outputs::only(Schema {
            keys: keys.clone(),
            ..schema
        }))
    }

    fn describe(&self, manifest: &mut dyn Manifest) {
        // How long it may take changes no result; the files come by content.
        let Parameters {
            run,
            files: _,
            shape,
            reads,
            yields,
            keys,
            timeout: _,
            env,
        } = &self.parameters;
        let run: Vec<&String> = run.iter().map(|Argument(text)| text).collect();
        manifest.part(Role::Parameter, "run", &json!(run));
        if *reads != TableFormat::default() {
            manifest.part(Role::Parameter, "reads", &json!(reads));
        }
        if *shape == CommandShape::Map {
            manifest.part(Role::Parameter, "shape", &json!("map"));
        }
        if let Some(yields) = yields {
            manifest.part(Role::Parameter, "yields", &json!(yields));
        }
        for (name, list) in [("keys", keys), ("env", env)] {
            if !list.is_empty() {
                manifest.part(Role::Parameter, name, &json!(list));
            }
        }
    }

    fn work(&self) -> Work<'_> {
        Work::Whole(self)
    }
}

impl Whole for Command {
    fn run(&self, inputs: &Inputs, open: &Open<'_>) -> Result<Product, Error> {
        let passed = Passed::from_environment(&self.parameters.env);
        self.execute(inputs, open, &passed)
            .map_err(|error| passed.hide_in(error))
    }
}

impl Command {
    fn execute(&self, inputs: &Inputs, open: &Open<'_>, passed: &Passed) -> Result<Product, Error> {
        open.check()?;
        let folder = Folder::new(&|message| (open.note)(message))?;
        files::place(&self.parameters.files, open.files, &folder.work)?;
        input::write(inputs, self.parameters.reads, &folder.input)?;
        let run: Vec<&str> = self.parameters.run.iter().map(|Argument(text)| text.as_str()).collect();
        let program = Program {
            run: &run,
            folder: &folder.work,
            given: &[
                ("IN", &folder.input),
                ("OUT", &folder.output),
                ("TMPDIR", &folder.scratch),
            ],
            passed,
            stdout: &folder.stdout,
            stderr: &folder.stderr,
        };
        let timeout = self.parameters.timeout.map(|timeout| timeout.0);
        let ending = process::run(&program, timeout, open.cancelled).map_err(|error| self.not_started(&error))?;
        match self.failure(ending) {
            None => self
                .product(inputs, &folder)
                .map_err(|error| error.context(format!("`{}` gave no table", self.parameters.shown()))),
            Some(error) => Err(quoted(error, passed, &folder)),
        }
    }

    fn product(&self, inputs: &Inputs, folder: &Folder) -> Result<Product, Error> {
        if self.parameters.shape == CommandShape::Reduce {
            return Ok(Product::table(
                output::read(&folder.output, &self.parameters, &|_| false)?.table,
            ));
        }
        let port = inputs.ports.first().map_or("", |(port, _)| port);
        let input = inputs.table(port)?;
        let written = output::read(&folder.output, &self.parameters, &|column| input.has(column))?;
        let (batch, parent) = mapped::added(written, input, self.parameters.yields.is_some())?;
        Ok(Product {
            outputs: Outputs::only(Output::Table { batch, parent }),
            notes: Vec::new(),
        })
    }

    fn not_started(&self, error: &io::Error) -> Error {
        let name = self.parameters.run.first().map_or("", |Argument(name)| name.as_str());
        let hint = match error.kind() {
            io::ErrorKind::NotFound if name.contains('/') => {
                "a program of the project must be listed under `files`; is what its first line names there, too?"
            }
            io::ErrorKind::NotFound => "programs without `/` are looked up on PATH; no shell reads `run`",
            _ => "a script needs a first line such as `#!/bin/sh`, or say `run: [sh, SCRIPT]`",
        };
        Error::new(ErrorKind::Environment, format!("`{name}` can not be started"))
            .cause(error)
            .hint(hint)
    }

    /// What to say of an ending that is no success.
    fn failure(&self, ending: Ending) -> Option<Error> {
        let shown = self.parameters.shown();
        let hint = "it runs in a folder of its own: list what it reads under `files`, and variables under `env`";
        Some(match ending {
            Ending::Code(0) => return None,
            Ending::Code(code) => Error::task(format!("`{shown}` ended with exit code {code}")).hint(hint),
            Ending::Signal(9) => {
                Error::task(format!("`{shown}` was killed by signal 9")).hint("was there enough memory?")
            }
            Ending::Signal(signal) => Error::task(format!("`{shown}` was killed by signal {signal}")),
            Ending::TimedOut => {
                let seconds = self.parameters.timeout.map_or(0.0, |timeout| timeout.0.as_secs_f64());
                Error::task(format!(
                    "`{shown}` took longer than its `timeout` of {seconds} s and was killed"
                ))
                .hint("raise `timeout`, or look at why it hangs; it gets no input from the terminal")
            }
            Ending::Cancelled => Error::new(ErrorKind::Interrupted, "interrupted"),
        })
    }
}

/// The error with what the program said last.
fn quoted(error: Error, passed: &Passed, folder: &Folder) -> Error {
    if error.kind == ErrorKind::Interrupted {
        return error;
    }
    if let Some(lines) = passed.last_lines(&folder.stderr) {
        return error.cause(format!("the end of its stderr:\n{lines}"));
    }
    let error = error.cause("it wrote nothing to stderr");
    match passed.last_lines(&folder.stdout) {
        Some(lines) => error.cause(format!("the end of its stdout:\n{lines}")),
        None => error,
    }
}

/// The folder of one execution; it goes when this does.
struct Folder {
    /// Where the program runs.
    work: PathBuf,
    /// `$IN`.
    input: PathBuf,
    /// `$OUT`.
    output: PathBuf,
    /// `$TMPDIR`.
    scratch: PathBuf,
    stdout: PathBuf,
    stderr: PathBuf,
    _whole: Place,
}

impl Folder {
    fn new(note: &dyn Fn(&str)) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::new(ErrorKind::Environment, "no folder for the program can be made")
                .cause(error)
                .hint("it is made where TMPDIR says; is there room left?")
        };
        let whole = Place::new(note).map_err(failed)?;
        // Programs may ask for the real path of where they are.
        let root = fs::canonicalize(whole.path()).map_err(failed)?;
        let inside = |name: &str| -> Result<PathBuf, Error> {
            let path: &Path = &root;
            let path = path.join(name);
            fs::create_dir(&path).map_err(failed)?;
            Ok(path)
        };
        Ok(Self {
            work: inside("work")?,
            input: inside("in")?,
            output: inside("out")?,
            scratch: inside("tmp")?,
            stdout: root.join("stdout"),
            stderr: root.join("stderr"),
            _whole: whole,
        })
    }
}
