//! SentencePiece's BPE: the pair whose piece has the highest score is merged first.

use super::super::Gguf;
use super::super::vocabulary::{TokenKind, Vocabulary};
use super::Model;
use fracture_stage::Error;
use std::collections::HashMap;
use tokenizers::Tokenizer;
use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::prepend::Prepend;
use tokenizers::normalizers::replace::Replace;
use tokenizers::normalizers::utils::Sequence as Normalizers;

/// How SentencePiece writes a space.
const SPACE: &str = "\u{2581}";

pub(super) fn build(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Model, Error> {
    let place = gguf.path().display();
    let scores = gguf.header().numbers("tokenizer.ggml.scores")?.ok_or_else(|| {
        Error::input(format!("{place}: tokenizer.ggml.scores is missing")).hint("fetch the file again")
    })?;
    if scores.len() != vocabulary.tokens.len() {
        let message = format!(
            "{place}: {} scores for {} tokens",
            scores.len(),
            vocabulary.tokens.len()
        );
        return Err(Error::input(message)
            .cause("tokenizer.ggml.scores")
            .hint("fetch the file again"));
    }
    let failed = |cause: tokenizers::Error| {
        Error::input(format!("{place}: its tokenizer cannot be used"))
            .cause(cause)
            .hint("fetch the file again")
    };
    let ids: Vocab = (0..)
        .zip(&vocabulary.tokens)
        .map(|(id, token)| (token.clone(), id))
        .collect();
    let mut builder = BPE::builder()
        .vocab_and_merges(ids, merges(vocabulary, &scores))
        .fuse_unk(true)
        .byte_fallback(vocabulary.kinds.contains(&TokenKind::Byte));
    if let Some(id) = vocabulary.id("unknown") {
        builder = builder.unk_token(vocabulary.tokens[id as usize].clone());
    }
    let mut tokenizer = Tokenizer::new(builder.build().map_err(failed)?);
    let spaced = vocabulary.flag("add_space_prefix")?.unwrap_or(true);
    let written = Replace::new(" ", SPACE).map_err(failed)?;
    let mut normalizers = Vec::new();
    if spaced {
        normalizers.push(Prepend::new(SPACE.to_owned()).into());
    }
    normalizers.push(written.into());
    tokenizer
        .with_normalizer(Some(Normalizers::new(normalizers)))
        .map_err(failed)?;
    let mut decoders = vec![
        Replace::new(SPACE, " ").map_err(failed)?.into(),
        ByteFallback::new().into(),
        Fuse::new().into(),
    ];
    if spaced {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    tokenizer.with_decoder(Some(Decoders::new(decoders)));
    Ok(Model {
        tokenizer,
        add_bos: true,
        clean_up: false,
    })
}

/// The pairs that make up pieces, the best first. Pairs of one piece come in the order that transformers' conversion
/// gives them: the longer left part first.
fn merges(vocabulary: &Vocabulary<'_>, scores: &[f32]) -> Vec<(String, String)> {
    let ids: HashMap<&str, usize> = vocabulary
        .tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.as_str(), id))
        .collect();
    let mut pairs: Vec<(usize, &str, &str)> = Vec::new();
    for (id, token) in vocabulary.tokens.iter().enumerate() {
        if vocabulary.kinds[id] == TokenKind::Byte {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (left, right) = token.split_at(at);
            if ids.contains_key(left) && ids.contains_key(right) {
                pairs.push((id, left, right));
            }
        }
    }
    let length = |text: &str| text.chars().count();
    pairs.sort_by(|a, b| {
        let by_score = scores[b.0].total_cmp(&scores[a.0]);
        by_score
            .then_with(|| length(b.1).cmp(&length(a.1)))
            .then_with(|| length(b.2).cmp(&length(a.2)))
            .then_with(|| a.0.cmp(&b.0))
    });
    pairs
        .into_iter()
        .map(|(_, left, right)| (left.to_owned(), right.to_owned()))
        .collect()
}
