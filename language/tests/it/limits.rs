//! Files that are made to take all memory or time: each is refused soon, with one clear error.

use std::time::{Duration, Instant};

use crate::compile;

/// Processor time of this thread, so that a busy machine fails no test; the time of day where the system does not say.
fn clock() -> Duration {
    static BEGUN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let begun = BEGUN.get_or_init(Instant::now);
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let spent = told
        .split_whitespace()
        .next()
        .and_then(|nanoseconds| nanoseconds.parse().ok());
    spent.map_or_else(|| begun.elapsed(), Duration::from_nanos)
}

#[track_caller]
fn refused(text: &str, told: &str) {
    let begun = clock();
    let wrong = compile(text).map(|_| ()).unwrap_err();
    let words = wrong.render(false);
    let took = clock().saturating_sub(begun);
    let shown = || words.chars().take(2000).collect::<String>();
    eprintln!(
        "{took:?}: {}",
        words
            .chars()
            .take(70)
            .collect::<String>()
            .lines()
            .next()
            .unwrap_or_default()
    );
    assert!(words.contains(told), "{}", shown());
    assert!(words.len() < 200_000, "{} letters: {}", words.len(), shown());
    assert!(took < Duration::from_secs(5), "it took {took:?}: {}", shown());
}

#[test]
fn aliases_that_hold_aliases() {
    let mut text = "version: 1\nx-0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!("x-{level}: &a{level} [{}]\n", vec![before; 9].join(", ")));
    }
    refused(&text, "expands to more than");
    let mut maps = "version: 1\nx-0: &a0 { k: v }\n".to_owned();
    for level in 1..30 {
        maps.push_str(&format!("x-{level}: &a{level} {{ l: *a{0}, r: *a{0} }}\n", level - 1));
    }
    refused(&maps, "expands to more than");
}

#[test]
fn a_matrix_is_counted_before_it_is_made() {
    let variables: Vec<String> = (0..12).map(|name| format!("v{name}: [{}]", "1, 2, 3, 4, 5")).collect();
    let text = format!(
        "version: 1\nstages:\n  a: {{ uses: query, matrix: {{ {} }}, with: {{ sql: x }} }}\n",
        variables.join(", ")
    );
    refused(&text, "would have 244140625 tasks");
    let ten = |name: &str| {
        format!(
            "{name}: [{}]",
            (0..100).map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
        )
    };
    // Each stage alone is small enough; what it multiplies is not.
    let text = format!(
        "version: 1\nmodels: {{ m: {{ source: s }} }}\nstages:\n  p: {{ uses: prompt, matrix: {{ {} }}, with: {{ pools: {{ s: {{ path: p }} }}, \
         regimes: {{ d: {{}} }} }} }}\n  q: {{ uses: generate, needs: p, matrix: {{ {} }}, with: {{ model: m }} }}\n  \
         r: {{ uses: judge, needs: q, matrix: {{ {} }}, with: {{ model: j, unsafe: [c] }} }}\n",
        ten("a"),
        ten("b"),
        ten("c")
    );
    refused(&text, "would have 1000000 tasks");
}

#[test]
fn joins_are_counted_before_they_are_made() {
    let list = |name: &str, count: usize| {
        format!(
            "{name}: [{}]",
            (0..count).map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
        )
    };
    // 20 000 tasks on each side, and a thousand of them meet each: 20 million connections.
    let text = format!(
        "version: 1\nstages:\n  left: {{ uses: load, matrix: {{ {0}, {1} }}, with: {{ path: a.csv }} }}\n  \
         right: {{ uses: load, matrix: {{ {0}, {2} }}, with: {{ path: b.csv }} }}\n  \
         scores: {{ uses: judge, needs: left, with: {{ model: j, unsafe: [c] }} }}\n  \
         met: {{ uses: threshold, needs: {{ scores: scores, calibration: right }}, with: {{ tau: 0.5 }} }}\n",
        list("m", 20),
        list("x", 1000),
        list("y", 1000)
    );
    refused(&text, "connections");
}

#[test]
fn deep_nesting() {
    for (open, close) in [("[", "]"), ("{a: ", "}")] {
        refused(
            &format!("version: 1\nvars: {}1{}\n", open.repeat(100_000), close.repeat(100_000)),
            "nested more than",
        );
    }
    let mut block = "version: 1\nvars:\n".to_owned();
    for depth in 1..500 {
        block.push_str(&format!("{}a:\n", " ".repeat(depth)));
    }
    refused(&block, "nested more than");
    refused(&format!("version: 1\nvars: {{ a: {}x }}\n", "- ".repeat(50_000)), "");
}

#[test]
fn scalars_without_end() {
    let long = "a".repeat(100 << 20);
    refused(&format!("version: 1\nname: {long}\n"), "MB");
    // As long as a file may be: whatever is said of it is short.
    let long = "a b".repeat(2 << 20);
    for text in [
        format!(
            "version: 1\nname: '{long}'\nstages: {{ a: {{ uses: '{}' }} }}\n",
            &long[..1 << 20]
        ),
        format!("version: 1\nstages: {{ {}: {{ uses: query }} }}\n", "k".repeat(4 << 20)),
        format!(
            "version: 1\nstages: {{ a: {{ uses: query, with: {{ sql: x, {}: 1 }} }} }}\n",
            "k".repeat(4 << 20)
        ),
        format!(
            "version: 1\nvars: {{ a: '{}' }}\nstages: {{ a: {{ uses: query, with: {{ sql: '{}' }} }} }}\n",
            &long[..1 << 20],
            "${vars.b}".repeat(10_000)
        ),
    ] {
        refused(&text, "");
    }
}

#[test]
fn a_long_text_is_a_text_like_any_other() {
    let begun = clock();
    let long = "word ".repeat(1_400_000);
    for text in [
        format!("version: 1\nstages:\n  a: {{ uses: query, with: {{ sql: '{long}' }} }}\n"),
        format!(
            "version: 1\nstages:\n  a:\n    uses: query\n    with:\n      sql: |\n        {}\n",
            long.replace("word word word word word ", "word\n        ")
        ),
        format!(
            "version: 1\nvars: {{ long: '{long}' }}\nstages:\n  a: {{ uses: query, with: {{ sql: '${{vars.long}}' }} }}\n"
        ),
    ] {
        compile(&text).unwrap_or_else(|wrong| panic!("{}", wrong.0[0].message));
    }
    let took = clock().saturating_sub(begun);
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn many_errors_are_told_in_few_words() {
    let lines: String = (0..20_000)
        .map(|one| format!("  s{one}: {{ uses: nothing{one} }}\n"))
        .collect();
    let wrong = compile(&format!("version: 1\nstages:\n{lines}"))
        .map(|_| ())
        .unwrap_err();
    assert_eq!(wrong.0.len(), 20_000);
    assert!(wrong.render(false).ends_with("and 19900 more"));
}

#[test]
fn many_unknown_names_are_looked_up_in_time() {
    let lines: String = (0..3_000)
        .map(|one| format!("  stage-{one}: {{ uses: query, needs: stagy-{one}, with: {{ sql: x }} }}\n"))
        .collect();
    refused(&format!("version: 1\nstages:\n{lines}"), "there is no stage `stagy-0`");
}
