//! How many tasks run at a time, what goes on after a failure, and the trace of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::project::{Project, Ran, count};

const SPEC: &str = "own.yaml";

/// A pipeline of shell scripts that may write to the project's folder, which is `$HERE`.
fn project(stages: &str) -> Project {
    let project = Project::shipped();
    project.write(SPEC, &format!("version: 1\nname: own\nstages:\n{stages}"));
    project
}

fn run(project: &Project, args: &[&str]) -> Ran {
    let all: Vec<&str> = ["run", SPEC, "--json"].iter().chain(args).copied().collect();
    let output = project.command(&all).env("HERE", project.root()).output().unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

const SLOW: &str = "  slow:
    uses: command
    matrix: { n: [1, 2, 3, 4, 5, 6] }
    with:
      run: [sh, -c, 'echo + >> $HERE/log; sleep 0.2; echo - >> $HERE/log; (echo item; echo $0) > $OUT/main.csv', '${matrix.n}']
      env: [HERE]
";

/// The most programs that were at work at once, as their log says.
fn most(project: &Project) -> i32 {
    let log = std::fs::read_to_string(project.path("log")).unwrap();
    let mut now = 0;
    let steps = log.lines().map(|line| {
        now += if line == "+" { 1 } else { -1 };
        now
    });
    steps.max().unwrap()
}

#[test]
fn so_many_tasks_run_at_a_time_as_jobs_says() {
    for jobs in [1, 3] {
        let project = project(SLOW);
        let ran = run(&project, &["--jobs", &jobs.to_string()]).ok().json();
        assert_eq!(count(&ran, "tasks", "ran"), 6);
        assert_eq!(most(&project), jobs);
    }
}

#[test]
fn the_trace_shows_each_task_once_and_none_over_another_in_its_lane() {
    let project = project(SLOW);
    run(&project, &["--jobs", "3", "--trace", "trace.json"]).ok();
    let trace: Value = serde_json::from_str(&std::fs::read_to_string(project.path("trace.json")).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let mut lanes: BTreeMap<u64, Vec<(f64, f64)>> = BTreeMap::new();
    let mut names = Vec::new();
    for slice in events.iter().filter(|event| event["ph"] == "X") {
        names.push(slice["name"].as_str().unwrap());
        let (start, length) = (slice["ts"].as_f64().unwrap(), slice["dur"].as_f64().unwrap());
        assert!(length >= 0.2e6, "{slice}");
        lanes
            .entry(slice["tid"].as_u64().unwrap())
            .or_default()
            .push((start, start + length));
    }
    names.sort_unstable();
    assert_eq!(names, [1, 2, 3, 4, 5, 6].map(|n| format!("slow[n={n}]")));
    assert_eq!(lanes.len(), 3);
    for slices in lanes.values_mut() {
        slices.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(slices.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{slices:?}");
    }
    // Every event has what the format asks for.
    for event in events {
        let has = |name: &str| !event[name].is_null();
        assert!(
            has("ph") && has("pid") && has("name") && (event["ph"] == "M" || has("ts")),
            "{event}"
        );
    }
}

const BROKEN: &str = "  bad: { uses: command, with: { run: [sh, -c, 'exit 4'] } }
  bad-after: { uses: command, needs: bad, with: { run: [sh, -c, 'cp $IN/bad.arrow $OUT/main.arrow'] } }
  good: { uses: command, with: { run: [sh, -c, 'sleep 0.3; (echo item; echo a) > $OUT/main.csv'] } }
  good-after: { uses: command, needs: good, with: { run: [sh, -c, 'cp $IN/good.arrow $OUT/main.arrow'] } }
";

#[test]
fn what_does_not_depend_on_a_failed_task_goes_on_if_asked() {
    let counts = |ran: &Ran| {
        let summary = ran.json();
        ["ran", "failed", "skipped"].map(|name| count(&summary, "tasks", name))
    };
    let kept = run(&project(BROKEN), &["--jobs", "1", "--keep-going"]).code(1);
    assert_eq!(counts(&kept), [2, 1, 1], "{}", kept.stdout);
    assert!(kept.stderr.contains("exit code 4"), "{}", kept.stderr);
    let stopped = run(&project(BROKEN), &["--jobs", "1"]).code(1);
    assert_eq!(counts(&stopped), [0, 1, 3], "{}", stopped.stdout);
    // What is at work when another task fails is finished and kept.
    let finished = run(&project(BROKEN), &["--jobs", "2"]).code(1);
    assert_eq!(counts(&finished), [1, 1, 2], "{}", finished.stdout);
}
