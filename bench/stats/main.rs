//! Times the intervals of `fracture-science` on pairs that `stats.py` has written, and prints what it found as JSON.
//!
//! Arguments: the folder with `first.f64` and `second.f64` (little-endian doubles, group after group), groups, rows of a
//! group, rows of a cluster, draws, groups whose medians are timed, threads.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use fracture_science::{FlipOptions, Pair, flips, median_interval};
use rayon::prelude::*;
use serde_json::{Value, json};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = Path::new(arguments.first().ok_or("a folder is needed")?);
    let number = |place: usize| -> Result<usize, Box<dyn Error>> {
        Ok(arguments.get(place).ok_or("an argument is missing")?.parse()?)
    };
    let (groups, rows, cluster, draws) = (number(1)?, number(2)?, number(3)?, number(4)?);
    let (medians, threads) = (number(5)?, number(6)?);
    let (first, second) = (read(&folder.join("first.f64"))?, read(&folder.join("second.f64"))?);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    let options = FlipOptions {
        tau: 0.5,
        bootstrap: draws,
        ..FlipOptions::default()
    };

    let started = Instant::now();
    let found: Vec<Value> = pool.install(|| {
        (0..groups)
            .into_par_iter()
            .map(|group| {
                let pair = |row: usize| Pair {
                    item: row as u64,
                    cluster: (row / cluster) as u64,
                    first: &first[row..=row],
                    second: &second[row..=row],
                };
                let pairs: Vec<Pair> = (group * rows..(group + 1) * rows).map(pair).collect();
                let summary = flips(&pairs, &options);
                summary.map_or(Value::Null, |s| {
                    let ends = |e: fracture_science::Estimate| json!([e.value, e.low, e.high]);
                    json!({"fracture": ends(s.fracture), "anti": ends(s.anti), "net": ends(s.net)})
                })
            })
            .collect()
    });
    let flips_seconds = started.elapsed().as_secs_f64();

    let started = Instant::now();
    let lifts: Vec<Value> = pool.install(|| {
        (0..medians)
            .into_par_iter()
            .map(|group| {
                let row = |row: usize| ((row / cluster) as u64, second[row] - first[row]);
                let values: Vec<(u64, f64)> = (group * rows..(group + 1) * rows).map(row).collect();
                let e = median_interval(&values, 0.95, draws, 0);
                json!([e.value, e.low, e.high])
            })
            .collect()
    });
    let median_seconds = started.elapsed().as_secs_f64();
    let shown = found.len().min(medians);
    println!(
        "{}",
        json!({
            "flips_seconds": flips_seconds,
            "median_seconds": median_seconds,
            "peak_bytes": peak(),
            "flips": found[..shown],
            "medians": lifts,
        })
    );
    Ok(())
}

fn read(path: &Path) -> Result<Vec<f64>, Box<dyn Error>> {
    let bytes = std::fs::read(path)?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(words.iter().map(|word| f64::from_le_bytes(*word)).collect())
}

/// The most memory that was held, where the system says it.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}
