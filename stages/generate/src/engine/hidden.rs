//! The last hidden states of texts, as embeddings take them.

use fracture_stage::Error;

use super::{Engine, each, share, unreadable};
use crate::cache::Cache;
use crate::decoder::Slot;

impl Engine {
    /// The last hidden states of each sequence of tokens, `[tokens, hidden]` row by row, behind the final norm. They are
    /// computed together; a sequence's bits do not depend on the others.
    ///
    /// # Errors
    /// An empty sequence, one longer than the context, a token outside the vocabulary.
    pub fn hidden_states(&self, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        let context = self.context();
        if let Some(long) = sequences.iter().find(|tokens| tokens.len() > context) {
            let length = long.len();
            return Err(Error::input(format!(
                "a text of {length} tokens exceeds the model's context of {context}"
            )));
        }
        self.team.install(|| self.states(sequences))
    }

    fn states(&self, sequences: &[&[u32]]) -> Result<Vec<Vec<f32>>, Error> {
        let threads = self.team.threads();
        let rows = sequences.iter().map(|tokens| tokens.len()).sum();
        let (run, piece) = share(self.options.unit, threads, rows, sequences.len());
        let one = |sequences: &[&[u32]]| -> Result<Vec<Vec<f32>>, Error> {
            let shape = self.decoder.cache_shape();
            let mut caches: Vec<Cache> = sequences
                .iter()
                .map(|tokens| Cache::new(shape, Vec::new(), tokens.len(), &self.meter))
                .collect();
            let mut slots: Vec<Slot<'_>> = sequences
                .iter()
                .zip(&mut caches)
                .map(|(tokens, cache)| Slot { tokens, cache })
                .collect();
            let states = self.decoder.hidden(run, &mut slots)?;
            let states: Vec<f32> = states.flatten_all().and_then(|s| s.to_vec1()).map_err(unreadable)?;
            let mut rest = states.as_slice();
            let width = self.decoder.config().hidden;
            let own = |tokens: &&[u32]| {
                let (own, after) = rest.split_at(tokens.len() * width);
                rest = after;
                own.to_vec()
            };
            Ok(sequences.iter().map(own).collect())
        };
        let mut pieces: Vec<(&[&[u32]], Vec<Vec<f32>>)> =
            sequences.chunks(piece).map(|run| (run, Vec::new())).collect();
        each(threads, &mut pieces, 1, |pieces| {
            for (sequences, states) in pieces {
                *states = one(sequences)?;
            }
            Ok(())
        })?;
        Ok(pieces.into_iter().flat_map(|(_, states)| states).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use crate::checkpoint::Checkpoint;
    use crate::engine::{Engine, Options};
    use crate::text::TextOptions;

    /// What shares the batch, in whatever order and on however many threads, moves no bit of a state.
    #[test]
    fn states_do_not_depend_on_their_batch() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/pico-faker");
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let engine = |threads| {
            let options = Options {
                threads: Some(threads),
                ..Options::default()
            };
            Engine::load(&checkpoint, &TextOptions::default(), options).unwrap()
        };
        let sequences: Vec<Vec<u32>> = (0..40u32)
            .map(|n| (0..1 + n * 7 % 33).map(|t| 5 + (n + t * t) % 200).collect())
            .collect();
        let sequences: Vec<&[u32]> = sequences.iter().map(Vec::as_slice).collect();
        let (one, two) = (engine(1), engine(2));
        let together = two.hidden_states(&sequences).unwrap();
        let width = two.decoder().config().hidden;
        for (tokens, states) in sequences.iter().zip(&together) {
            assert_eq!(states.len(), tokens.len() * width);
            assert_eq!(one.hidden_states(&[tokens]).unwrap()[0], *states);
        }
        assert!(together[3].iter().all(|x| x.is_finite()) && together[3] != together[4]);
        assert!(one.hidden_states(&[&[]]).is_err());
        assert!(one.hidden_states(&[&[9_999_999]]).is_err());
        assert!(one.hidden_states(&[]).unwrap().is_empty());
        let long = vec![5; one.context() + 1];
        assert!(one.hidden_states(&[&long]).is_err());
    }
}
