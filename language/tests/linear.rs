//! The work of compiling grows with the tasks, and little of it is done for each: counted in builds of stages and in
//! allocations, which no busy machine changes.
#![allow(clippy::unwrap_used, dead_code)]

#[path = "it/catalogue/mod.rs"]
mod catalogue;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use fracture_language::{CompileOptions, MAX_TASKS, Pipeline};

/// Counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is the system allocator's; the count is of the thread and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A compiled pipeline and the allocations that it took.
fn compiled(stages: &str) -> (Pipeline, usize) {
    let text = format!(
        "version: 1
models: {{ a: {{ source: m/a, labels: {{ family: llama }} }}, j: {{ source: m/j }} }}
stages:
  prompts: {{ uses: prompt, with: {{ pools: {{ safety: {{ path: p }} }}, regimes: {{ deploy: {{}} }} }} }}
{stages}"
    );
    let options = CompileOptions {
        profiles: Vec::new(),
        sets: Vec::new(),
        env: &|_| None,
        max_tasks: MAX_TASKS,
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let before = ALLOCATIONS.get();
    let pipeline = fracture_language::compile(
        &root.join("test.yaml"),
        &text,
        &catalogue::catalogue(),
        &catalogue::Disk(root.clone()),
        &root,
        &options,
    );
    let pipeline = pipeline.unwrap_or_else(|wrong| panic!("{wrong}"));
    (pipeline, ALLOCATIONS.get() - before)
}

fn list(count: usize) -> String {
    let values: Vec<String> = (0..count)
        .map(|one| format!("{:.4}", one as f64 / count as f64))
        .collect();
    values.join(", ")
}

/// Few stages: ten answers, a threshold for each of `count` taus, and one stage over all of them.
fn wide(count: usize) -> String {
    format!(
        "  answers: {{ uses: generate, needs: prompts, matrix: {{ seed: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }}, with: {{ model: a, seed: '${{matrix.seed}}' }} }}
  scores: {{ uses: judge, needs: answers, with: {{ model: j, unsafe: [comply] }} }}
  verdicts: {{ uses: threshold, needs: scores, matrix: {{ tau: [{}] }}, with: {{ tau: '${{matrix.tau}}' }} }}
  flips: {{ uses: fracture, needs: verdicts, with: {{ by: [seed] }} }}\n",
        list(count)
    )
}

/// Many stages of one task.
fn many(count: usize) -> String {
    let mut text = "  answers: { uses: generate, needs: prompts, with: { model: a } }
  scores: { uses: judge, needs: answers, with: { model: j, unsafe: [comply] } }\n"
        .to_owned();
    for stage in 0..count {
        text.push_str(&format!(
            "  s{stage}: {{ uses: threshold, needs: scores, with: {{ tau: 0.5 }} }}\n"
        ));
    }
    text
}

fn different<T: ?Sized>(pipeline: &Pipeline, of: impl Fn(&fracture_language::Task) -> *const T) -> usize {
    let addresses: HashSet<usize> = pipeline.tasks.iter().map(|task| of(task).cast::<()>().addr()).collect();
    addresses.len()
}

#[test]
fn tasks_share_what_they_have_in_common() {
    let (pipeline, allocations) = compiled(&wide(1000));
    assert_eq!(pipeline.tasks.len(), 1 + 10 + 10 + 10_000 + 1);
    // Prompts, ten seeds, one judge, a thousand taus, and the reduce.
    assert_eq!(different(&pipeline, |task| Arc::as_ptr(&task.implementation)), 1013);
    assert_eq!(different(&pipeline, |task| Arc::as_ptr(&task.with)), 1013);
    assert_eq!(different(&pipeline, |task| Arc::as_ptr(&task.context)), 1013);
    // What arrives: nothing, the prompts, ten answers, ten scores, all verdicts.
    assert_eq!(
        different(&pipeline, |task| Arc::as_ptr(&task.inputs)),
        1 + 1 + 10 + 10 + 1
    );
    // One for each stage: what is at its ports differs in values alone.
    assert_eq!(different(&pipeline, |task| Arc::as_ptr(&task.schema)), 5);
    let each = allocations / pipeline.tasks.len();
    assert!(each <= 30, "{each} allocations a task");
}

#[test]
fn the_work_is_linear() {
    for shape in [wide, many] {
        let ((small, few), (large, more)) = (compiled(&shape(500)), compiled(&shape(2000)));
        let growth = large.tasks.len() as f64 / small.tasks.len() as f64;
        let work = more as f64 / few as f64;
        assert!(
            work < 1.15 * growth,
            "{growth} times the tasks take {work} times the allocations"
        );
    }
}
