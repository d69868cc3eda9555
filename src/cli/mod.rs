//! The command line: it parses, calls the library, prints, and decides the exit code. Nothing else prints.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod because;
mod cache;
mod diff;
mod failure;
mod fetch;
mod figures;
mod gc;
mod graph;
mod holdings;
mod inspect;
mod plan;
mod progress;
mod project;
mod run;
mod runs;
mod tables;
mod units;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use failure::Exit;
use failure::Failure;

/// Declarative, content-addressed pipelines for alignment-faking evaluations.
///
/// A pipeline is a YAML file. `fracture run` computes what is missing, and nothing else.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON instead of text, errors included.
    #[arg(long, global = true)]
    json: bool,
    /// Log what the program does (also: the variable FRACTURE_LOG).
    #[arg(long, global = true, hide = true)]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run what is missing, draw the figures, write the lock file.
    Run(RunArgs),
    /// Say what would run and why.
    Plan(PlanArgs),
    /// Say what a task's key is made of, and what changed since the lock file.
    Why(WhyArgs),
    /// Print the DAG.
    Graph(GraphArgs),
    /// Say what differs between two lock files, git revisions or runs, and how the numbers moved.
    Diff(diff::DiffArgs),
    /// Print a stage's table.
    Show(ShowArgs),
    /// Write a stage's table to a file.
    Export(ExportArgs),
    /// Draw the figures again, computing nothing.
    Figures(SpecArgs),
    /// Compute recorded results again and say whether they come out the same.
    Verify(VerifyArgs),
    /// Remove results that nothing holds.
    Gc(gc::GcArgs),
    /// Look into the store.
    #[command(subcommand)]
    Cache(cache::CacheCommand),
    /// List the runs of the store.
    Runs(runs::RunsArgs),
    /// Print the resolved pipeline.
    Config(SpecArgs),
    /// Print the JSON Schema of pipelines, for editors.
    Schema,
    /// Check what fracture needs from this machine.
    Doctor(DoctorArgs),
    /// Not in this version.
    #[command(hide = true, name = "report", aliases = ["view", "new", "watch", "push", "pull", "worker"])]
    Later(LaterArgs),
}

/// What a later version takes.
#[derive(Debug, Args)]
struct LaterArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<String>,
}

/// Which pipeline, and how it is varied.
#[derive(Debug, Clone, Args)]
struct SpecArgs {
    /// The pipeline's YAML file.
    spec: PathBuf,
    /// Apply a profile of the pipeline; several from left to right.
    #[arg(long, value_name = "NAME")]
    profile: Vec<String>,
    /// Set a value of the pipeline, e.g. `vars.harm=9`; the value is YAML.
    #[arg(long, value_name = "PATH=YAML")]
    set: Vec<String>,
    /// The store's folder (default: `.fracture` in the project's root).
    #[arg(long, value_name = "DIR", env = "FRACTURE_STORE")]
    store: Option<PathBuf>,
    /// Refuse a pipeline of more tasks (default: 200000).
    #[arg(long, value_name = "N")]
    max_tasks: Option<usize>,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// Run only these tasks: `STAGE`, `TASK`, globs, `+STAGE` with what it needs, `STAGE+` with what needs it.
    #[arg(long, value_name = "SELECTOR")]
    only: Vec<String>,
    /// Stages that run side by side (default: one a core).
    #[arg(long, short, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    jobs: Option<usize>,
    /// When a task fails, go on with what does not depend on it.
    #[arg(long)]
    keep_going: bool,
    /// Fail unless recipes and results are those of the lock file.
    #[arg(long)]
    locked: bool,
    /// Ask the hub for the newest commits of its models' revisions, instead of taking those of the lock file.
    #[arg(long, conflicts_with_all = ["locked", "offline"])]
    update: bool,
    /// Draw these tasks of served models anew; earlier results stay in the store.
    #[arg(long, value_name = "SELECTOR", conflicts_with_all = ["locked", "set"])]
    refresh: Vec<String>,
    /// Fetch nothing (ONNX Runtime, models).
    #[arg(long)]
    offline: bool,
    /// Print events as they happen, one JSON object a line, on stderr.
    #[arg(long, value_enum, value_name = "FORMAT")]
    events: Option<EventFormat>,
    /// Write a trace of the run, for Perfetto and chrome://tracing.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Which store.
#[derive(Debug, Clone, Args)]
struct StoreArgs {
    /// A pipeline of the project whose store is meant (default: the project of the current folder).
    spec: Option<PathBuf>,
    /// The store's folder (default: `.fracture` in the project's root).
    #[arg(long, value_name = "DIR", env = "FRACTURE_STORE")]
    store: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EventFormat {
    /// One JSON object a line.
    Json,
}

#[derive(Debug, Args)]
struct PlanArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// Exit with 3 if anything would run.
    #[arg(long)]
    check: bool,
    /// Ask the hub for the newest commits of its models' revisions; fetch nothing.
    #[arg(long)]
    update: bool,
    /// Fail if a model would have to be fetched.
    #[arg(long, conflicts_with = "update")]
    offline: bool,
}

#[derive(Debug, Args)]
struct WhyArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// The task, e.g. `answers[model=pico-faker,decoder=greedy]`, or a stage.
    task: String,
    /// Ask the hub for the newest commits of its models' revisions; fetch nothing.
    #[arg(long)]
    update: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum GraphFormat {
    /// For Markdown.
    Mermaid,
    /// For Graphviz.
    Dot,
    /// A picture, its boxes coloured by what a run would do.
    Svg,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
struct GraphArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// How to print it.
    #[arg(long, value_enum, default_value = "mermaid")]
    format: GraphFormat,
    /// Every task instead of every stage.
    #[arg(long)]
    tasks: bool,
}

#[derive(Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// The stage, or `STAGE.OUTPUT` for a side output.
    stage: String,
    /// Only these columns, in this order.
    #[arg(long, value_delimiter = ',', value_name = "COLUMN")]
    columns: Option<Vec<String>>,
    /// At most so many rows (default: 40, all with --json).
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
}

#[derive(Debug, Args)]
struct ExportArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// The stage, or `STAGE.OUTPUT` for a side output.
    stage: String,
    /// The file: .parquet, .csv, .jsonl or .arrow. Folders that are missing are made.
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// Only these columns, in this order.
    #[arg(long, value_delimiter = ',', value_name = "COLUMN")]
    columns: Option<Vec<String>>,
}

#[derive(Debug, Args)]
struct VerifyArgs {
    #[command(flatten)]
    spec: SpecArgs,
    /// Only so many tasks, chosen at random.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Only these tasks.
    #[arg(long, value_name = "SELECTOR")]
    only: Vec<String>,
    /// Fetch nothing.
    #[arg(long)]
    offline: bool,
}

#[derive(Debug, Args)]
struct DoctorArgs {
    /// Fetch nothing.
    #[arg(long)]
    offline: bool,
}

/// Whether the user asked for JSON; set once, before anything is said.
static JSON: AtomicBool = AtomicBool::new(false);

/// Parses the command line, does what it says, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is parsed yet, so programs are told by their word alone.
            let as_json = std::env::args_os().any(|argument| argument == "--json");
            if as_json && error.use_stderr() {
                eprintln!("{}", failure::usage_json(&error));
            } else {
                // Help and version are no errors; clap knows where each is printed.
                let _ = error.print();
            }
            return if error.use_stderr() {
                Exit::Usage.into()
            } else {
                Exit::Done.into()
            };
        }
    };
    log(cli.verbose);
    let json = cli.json;
    JSON.store(json, Ordering::Relaxed);
    let result = match cli.command {
        Command::Run(args) => run::run(&args, json),
        Command::Plan(args) => plan::plan(&args, json),
        Command::Why(args) => plan::why(&args, json),
        Command::Graph(args) => graph::graph(&args),
        Command::Diff(args) => diff::diff(&args, json),
        Command::Show(args) => tables::show(&args, json),
        Command::Export(args) => tables::export(&args, json),
        Command::Figures(args) => figures::redraw(&args, json),
        Command::Verify(args) => verify::verify(&args, json),
        Command::Gc(args) => gc::gc(&args, json),
        Command::Cache(command) => cache::cache(&command, json),
        Command::Runs(args) => runs::runs(&args, json),
        Command::Config(args) => inspect::config(&args, json),
        Command::Schema => inspect::schema(),
        Command::Doctor(args) => inspect::doctor(&args, json),
        Command::Later(_) => Err(later().into()),
    };
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report(json).into(),
    }
}

/// The error for a command that the language knows and this version does not.
fn later() -> fracture_stage::Error {
    let known = ["report", "view", "new", "watch", "push", "pull", "worker"];
    let name = std::env::args().find(|argument| known.contains(&argument.as_str()));
    let what = format!("`fracture {}` is not in this version", name.unwrap_or_default());
    fracture_stage::Error::pipeline(what).hint("`fracture --help` lists the commands of this version")
}

fn log(verbose: bool) {
    use tracing_subscriber::EnvFilter;
    // ONNX Runtime is talkative below warnings.
    let default = if verbose {
        "fracture=debug,fracture_cache=debug,ort=warn"
    } else {
        "error,ort=error"
    };
    let filter = EnvFilter::try_from_env("FRACTURE_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    // What goes over the wire to a hub has the user's token in it; whatever is asked for, it is not logged.
    let filter = ["ureq_proto=off"]
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
}

/// Leaves what is large to the end of the process, which frees it at once instead of piece by piece.
fn leave<T>(large: T) {
    std::mem::forget(large);
}

/// Prints to stdout; a reader that went away is no error.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write as _;
    let mut out = anstream::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(fracture_stage::Error::new(
            fracture_stage::ErrorKind::Environment,
            "can not write to stdout",
        )
        .cause(error)
        .into()),
        _ => Ok(()),
    }
}
