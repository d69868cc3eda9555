//! How programs come to their end: by themselves, too late, interrupted; and what is quoted of them.

use super::*;

/// Whether a process is there and no zombie.
fn runs(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status
        .rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

/// Waits for a process to be gone, which takes the system a moment.
fn gone(pid: &str) -> bool {
    let started = Instant::now();
    while runs(pid) && started.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
    }
    !runs(pid)
}

#[test]
fn a_failure_quotes_the_exit_code_and_the_last_lines() {
    let error = script("for i in $(seq 1 50); do echo line $i >&2; done; exit 3").unwrap_err();
    assert!(error.message.contains("exit code 3"), "{error}");
    let quoted = &error.causes[0];
    assert!(
        quoted.contains("line 31\n") && quoted.ends_with("line 50") && !quoted.contains("line 30"),
        "{quoted}"
    );

    let error = script("echo told on stdout; exit 1").unwrap_err();
    assert!(error.causes[1].contains("told on stdout"), "{error}");
    let error = script("kill -9 $$").unwrap_err();
    assert!(error.message.contains("signal 9"), "{error}");
    let error = run(
        &json!({ "run": ["no-such-program-anywhere"] }),
        &Inputs::default(),
        &Project::new(&[]),
    )
    .unwrap_err();
    assert!(
        error.message.contains("`no-such-program-anywhere` can not be started"),
        "{error}"
    );
    // Half a table is none when the program failed.
    let error = script("echo a > $OUT/main.csv; exit 4").unwrap_err();
    assert!(error.message.contains("exit code 4"), "{error}");
}

#[test]
fn a_program_that_hangs_is_killed_with_its_children() {
    let project = Project::new(&[]);
    let pids = project.locate("pids");
    let text = format!(
        "trap '' TERM; sleep 300 & echo $! > {0}.part; mv {0}.part {0}; wait; sleep 300",
        pids.display()
    );
    let started = Instant::now();
    let with = json!({ "run": ["sh", "-c", text], "timeout": 0.5 });
    let error = run(&with, &Inputs::default(), &project).unwrap_err();
    assert!(error.message.contains("longer than its `timeout` of 0.5 s"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
    let child = fs::read_to_string(pids).unwrap();
    assert!(gone(child.trim()), "the child {child} still runs");
}

#[test]
fn what_a_program_leaves_running_is_killed() {
    let project = Project::new(&[]);
    let pids = project.locate("pids");
    let text = format!(
        "sleep 300 & echo $! > {}; printf 'a\\n1\\n' > $OUT/main.csv",
        pids.display()
    );
    let started = Instant::now();
    run(&json!({ "run": ["sh", "-c", text] }), &Inputs::default(), &project).unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
    let child = fs::read_to_string(pids).unwrap();
    assert!(gone(child.trim()), "the child {child} still runs");
}

#[test]
fn an_interruption_kills_it() {
    let cancelled = AtomicBool::new(false);
    let with = json!({ "run": ["sleep", "300"] });
    let started = Instant::now();
    let error = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(200));
            cancelled.store(true, Ordering::Relaxed);
        });
        run_until(&with, &Inputs::default(), &Project::new(&[]), &cancelled).unwrap_err()
    });
    assert_eq!(error.kind, ErrorKind::Interrupted);
    assert!(started.elapsed() < Duration::from_secs(30));
}

#[test]
fn values_of_variables_are_in_no_quotation() {
    let passed = Passed::of(&[
        ("API_KEY", "hunter2"),
        ("PIN_TOKEN", "7"),
        ("MODE", "1"),
        ("HOST", "example.org"),
    ]);
    assert_eq!(
        passed.hide("hunter2 at example.org, 7 of 1"),
        "<API_KEY> at <HOST>, <PIN_TOKEN> of 1"
    );
    let error = Error::task("no hunter2").cause("hunter2 again").hint("not hunter2");
    let hidden = passed.hide_in(error);
    assert!(!format!("{hidden} {:?}", hidden.hint).contains("hunter2"), "{hidden}");

    // One variable that every machine has: its value is passed on, and hidden where it is quoted.
    let Ok(home) = std::env::var("HOME") else { return };
    let with = json!({ "run": ["sh", "-c", "echo home is $HOME >&2; exit 1"], "env": ["HOME"] });
    let error = run(&with, &Inputs::default(), &Project::new(&[])).unwrap_err();
    assert!(home.len() < 4 || error.causes[0].contains("home is <HOME>"), "{error}");
    let error = script("echo home is $HOME. >&2; exit 1").unwrap_err();
    assert!(error.causes[0].contains("home is ."), "{error}");
}
