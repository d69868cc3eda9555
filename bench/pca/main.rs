//! Principal components of a table of f32 from a file, timed: the half of `compare.py` that is ours.
//!
//! `bench-pca FILE COLUMNS COUNT REPEATS` prints one JSON object: seconds of each repeat (without reading the file), the shares of
//! the variance and the first direction.

use std::time::Instant;

use fracture_science::principal_components;
use serde_json::json;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, columns, count, repeats] = arguments.as_slice() else {
        return Err("usage: bench-pca FILE COLUMNS COUNT REPEATS".into());
    };
    let (columns, count, repeats): (usize, usize, usize) = (columns.parse()?, count.parse()?, repeats.parse()?);
    let bytes = std::fs::read(file)?;
    let values: Vec<f32> = bytes
        .as_chunks::<4>()
        .0
        .iter()
        .map(|x| f32::from_le_bytes(*x))
        .collect();
    let rows: Vec<&[f32]> = values.chunks_exact(columns).collect();
    let mut seconds = Vec::with_capacity(repeats);
    let mut principal = principal_components(&rows[..rows.len().min(1000)], count);
    for _ in 0..repeats {
        let start = Instant::now();
        principal = principal_components(&rows, count);
        seconds.push(start.elapsed().as_secs_f64());
    }
    let found = json!({"seconds": seconds, "shares": principal.shares, "direction": principal.directions[0]});
    std::io::Write::write_all(&mut std::io::stdout(), found.to_string().as_bytes())?;
    Ok(())
}
