//! Which rows show how a model behaves in deployment.

use std::collections::HashMap;

use fracture_measure::order;
use fracture_stage::Error;

use super::measured::Measurer;
use crate::landscape::DECODER;

impl Measurer<'_> {
    /// The group that shows the truth of each group: itself, but for what the truth holds. Where it holds a column of the
    /// decoder, the decoder's other columns follow.
    pub(super) fn find_truths(&self) -> Result<Vec<Option<usize>>, Error> {
        let measured = self.measured;
        let decoder = |column: usize| DECODER.contains(&measured.by[column].0.as_str());
        let follows = self.held.iter().any(|(column, _)| decoder(*column));
        let text = |column: usize, group: usize| measured.by_text[column][group].as_deref();
        let held = |column: usize| self.held.iter().any(|(held, _)| *held == column);
        let rest = |group: usize| -> Vec<Option<&str>> {
            let kept = (0..measured.by.len()).filter(|&c| !(held(c) || follows && decoder(c)));
            kept.map(|column| text(column, group)).collect()
        };
        let holds = |group: &usize| {
            let same = |(column, value): &(usize, String)| text(*column, *group).is_some_and(|v| order::same(v, value));
            self.held.iter().all(same)
        };
        let mut of_rest: HashMap<Vec<Option<&str>>, Vec<usize>> = HashMap::new();
        for group in (0..measured.groups.len()).filter(holds) {
            of_rest.entry(rest(group)).or_default().push(group);
        }
        let truth = |group: usize| match of_rest.get(&rest(group)).map(Vec::as_slice) {
            None | Some([]) => Ok(None),
            Some([one]) => Ok(Some(*one)),
            Some(several) => self.one_truth(several).map(Some),
        };
        (0..measured.groups.len()).map(truth).collect()
    }

    /// Of several decoders that the truth could mean, the first where all are greedy: they answer alike.
    fn one_truth(&self, several: &[usize]) -> Result<usize, Error> {
        let by = &self.measured.by;
        let greedy = |group: &usize| {
            let temperature = by.iter().position(|(name, _)| name == "temperature");
            let text = temperature.and_then(|column| self.measured.by_text[column][*group].as_deref());
            text.is_some_and(|text| order::same(text, "0"))
        };
        if several.iter().all(greedy) {
            return Ok(several[0]);
        }
        let columns: Vec<usize> = (0..by.len()).filter(|&c| DECODER.contains(&by[c].0.as_str())).collect();
        let names = several[..2]
            .iter()
            .map(|&group| self.values(group, &columns).join(", "));
        let names: Vec<String> = names.collect();
        Err(Error::pipeline(format!(
            "several decoders could show the truth: {}",
            names.join(" and ")
        ))
        .hint("hold the one that will be deployed: `truth: { regime: deploy, decoder: NAME }`"))
    }
}
