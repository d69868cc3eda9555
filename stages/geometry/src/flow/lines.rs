//! The rows of the main table of `flow`.

use arrow::array::LargeStringArray;
use fracture_measure::read::science;
use fracture_measure::rows::{Contrast, Measured};
use fracture_measure::table::{Column, count, number, text};
use fracture_science::{
    Displacement, Entry, EntryOptions, Estimate, Labelled, benjamini_hochberg, displacement, entry,
};
use fracture_stage::{Error, Open};

use super::arrows::{Arrow, Component, Drawn};
use super::boundary::Outside;
use super::embeddings::Embeddings;
use super::items::Items;
use super::parameters::FlowParameters;

/// A row of the main table.
pub struct Line {
    pub group: usize,
    contrast: String,
    k: usize,
    unpaired: usize,
    invalid: usize,
    displacement: Displacement,
    noise_drift: Option<f64>,
    spread: [Option<f64>; 2],
    p_adjusted: Option<f64>,
    entry: Entry,
    boundary: &'static str,
    clusters: usize,
    confidence: f64,
    note: Option<String>,
}

impl Line {
    /// How far the group drifts beside what it drifts without a reason; `None` without an A/A pair, or where that pair does
    /// not move (greedy decoding).
    fn relative(&self) -> Option<f64> {
        let noise = self.noise_drift.filter(|noise| *noise > 0.0)?;
        Some(self.displacement.med_drift.value? / noise)
    }

    /// Entry where it may be a headline.
    fn headline(&self) -> Option<f64> {
        self.entry.entry.value.filter(|_| self.entry.headline)
    }
}

/// Its columns behind the group columns.
pub const COLUMNS: &[Column<Line>] = &[
    text("contrast", |line| Some(&line.contrast)),
    count("k", |line| line.k),
    count("n", |line| line.displacement.n),
    count("unpaired", |line| line.unpaired),
    count("invalid", |line| line.invalid),
    number("med_drift", |line| line.displacement.med_drift.value),
    number("med_drift_low", |line| line.displacement.med_drift.low),
    number("med_drift_high", |line| line.displacement.med_drift.high),
    number("med_cosine_drift", |line| line.displacement.med_cosine_drift),
    number("noise_drift", |line| line.noise_drift),
    number("relative_med_drift", Line::relative),
    number("resultant", |line| line.displacement.resultant),
    number("first_direction_share", |line| line.displacement.first_direction_share),
    number("train_spread", |line| line.spread[0]),
    number("deploy_spread", |line| line.spread[1]),
    number("p_drift", |line| line.displacement.p_drift),
    number("p_adjusted", |line| line.p_adjusted),
    number("entry", |line| line.entry.entry.value),
    number("entry_low", |line| line.entry.entry.low),
    number("entry_high", |line| line.entry.entry.high),
    number("exit", |line| line.entry.exit.value),
    number("exit_low", |line| line.entry.exit.low),
    number("exit_high", |line| line.entry.exit.high),
    number("net_entry", |line| line.entry.net_entry.value),
    number("net_entry_low", |line| line.entry.net_entry.low),
    number("net_entry_high", |line| line.entry.net_entry.high),
    number("headline", Line::headline),
    number("depth", |line| line.entry.depth),
    text("boundary", |line| Some(line.boundary)),
    number("boundary_auc", |line| line.entry.boundary_auc),
    count("unsafe_completions", |line| line.entry.unsafe_completions),
    count("clusters", |line| line.clusters),
    number("confidence", |line| Some(line.confidence)),
    text("note", |line| line.note.as_deref()),
];

/// The names that group columns can not have.
pub fn names() -> impl Iterator<Item = &'static str> {
    COLUMNS.iter().map(|column| column.name)
}

/// What the flow is computed from.
pub struct Flow<'a> {
    pub measured: &'a Measured,
    pub embeddings: &'a Embeddings,
    pub outside: Option<&'a Outside>,
    /// The items' names, row by row over all verdicts.
    pub names: LargeStringArray,
    pub parameters: &'a FlowParameters,
}

/// The rows of the three tables.
#[derive(Default)]
pub struct Found {
    pub lines: Vec<Line>,
    pub arrows: Vec<Arrow>,
    pub components: Vec<Component>,
}

impl Flow<'_> {
    /// Every group under every contrast.
    ///
    /// # Errors
    /// When a regime is not there, embeddings of one group have several lengths, or the user interrupts.
    pub fn run(&self, open: &Open<'_>) -> Result<Found, Error> {
        let twins = self.measured.same_but_draw();
        let contrasts = self.measured.contrasts(self.parameters.contrasts.as_deref(), &twins)?;
        let outside = self.outside.map(Outside::labelled);
        let mut found = Found::default();
        let total = (self.measured.groups.len() * contrasts.len()) as u64;
        for group in 0..self.measured.groups.len() {
            for &contrast in &contrasts {
                open.check()?;
                self.one(group, contrast, &twins, outside.as_deref(), &mut found)?;
                (open.progress)(found.lines.len() as u64, total);
            }
        }
        let p: Vec<Option<f64>> = found.lines.iter().map(|line| line.displacement.p_drift).collect();
        for (line, adjusted) in found.lines.iter_mut().zip(benjamini_hochberg(&p)) {
            line.p_adjusted = adjusted;
        }
        Ok(found)
    }

    fn one(
        &self,
        group: usize,
        contrast: Contrast,
        twins: &[Contrast],
        outside: Option<&[Labelled<'_>]>,
        found: &mut Found,
    ) -> Result<(), Error> {
        let items = Items::read(self.measured, self.embeddings, group, contrast)?;
        let flow = items.flow();
        let parameters = self.parameters;
        let draws = parameters.bootstrap as usize;
        let displacement = displacement(&flow, parameters.confidence, draws, parameters.seed).map_err(lengths)?;
        let options = EntryOptions {
            boundary: parameters.boundary.into(),
            folds: parameters.folds as usize,
            confidence: parameters.confidence,
            bootstrap: draws,
            seed: parameters.seed,
        };
        let mut entry = entry(&flow, outside, &options).map_err(lengths)?;
        let contrast_name = self.measured.contrast_name(contrast);
        let drawn = Drawn {
            group,
            contrast: &contrast_name,
            items: &items,
            scores: &std::mem::take(&mut entry.scores),
            plane: entry.plane.as_ref(),
            names: &self.names,
        };
        drawn.push(&mut found.arrows, &mut found.components);
        let mut clusters: Vec<u64> = flow.iter().map(|item| item.cluster).collect();
        clusters.dedup();
        let noise_drift = self.noise_drift(group, contrast, twins)?;
        let still = noise_drift == Some(0.0);
        let still = still.then(|| "the A/A pair does not move, so drift has no noise to compare with".to_owned());
        let notes: Vec<String> = entry.caveat().into_iter().chain(still).collect();
        found.lines.push(Line {
            group,
            contrast: contrast_name,
            k: items.k,
            unpaired: items.unpaired,
            invalid: items.invalid,
            displacement,
            noise_drift,
            spread: items.spread(),
            p_adjusted: None,
            entry,
            boundary: self.parameters.boundary.name(),
            clusters: clusters.len(),
            confidence: parameters.confidence,
            note: (!notes.is_empty()).then(|| notes.join("; ")),
        });
        Ok(())
    }

    /// The median drift of the group's A/A pair that is closest to the contrast; `None` without one, never 0.
    fn noise_drift(&self, group: usize, contrast: Contrast, twins: &[Contrast]) -> Result<Option<f64>, Error> {
        for twin in self.measured.floors(contrast, twins) {
            let items = Items::read(self.measured, self.embeddings, group, twin)?;
            let Estimate { value, .. } = displacement(&items.flow(), self.parameters.confidence, 0, 0)
                .map_err(lengths)?
                .med_drift;
            if value.is_some() {
                return Ok(value);
            }
        }
        Ok(None)
    }

    /// What a person should know of the lines.
    pub fn notes(&self, found: &Found) -> Vec<String> {
        let mut notes = Vec::new();
        if !found.lines.is_empty() && self.measured.same_but_draw().is_empty() {
            notes.push(
                "no relative drift: no two regimes differ only in their random stream (add `deploy-again: { draw: 1 }`)"
                    .to_owned(),
            );
        }
        let total = |read: fn(&Line) -> usize| -> usize { found.lines.iter().map(read).sum() };
        let refused = found.lines.iter().filter(|line| line.headline().is_none()).count();
        let counts = [
            (self.embeddings.missing, "verdicts have no row among the embeddings"),
            (
                self.outside.map_or(0, |outside| outside.unusable),
                "points of `boundary` have no embedding or no label",
            ),
            (
                total(|line| line.unpaired),
                "items, over all groups and contrasts, lack one of the regimes (`unpaired`)",
            ),
            (
                total(|line| line.invalid),
                "items, over all groups and contrasts, have no embedding under one of the regimes (`invalid`)",
            ),
            (
                refused,
                "rows have no headline: their boundary does not separate safe from unsafe well enough (`note`)",
            ),
        ];
        let said = counts.iter().filter(|(count, _)| *count > 0);
        notes.extend(said.map(|(count, what)| format!("{count} {what}")));
        notes
    }
}

/// An error of the numbers as one of the task.
fn lengths(error: fracture_science::ScienceError) -> Error {
    match error {
        fracture_science::ScienceError::Shape { expected, found, .. } => {
            Error::task(format!("embeddings of {expected} and of {found} values in one group"))
                .hint("compare completions that one encoder has embedded: say `per: [encoder]`, or take one")
        }
        other => science(other),
    }
}
