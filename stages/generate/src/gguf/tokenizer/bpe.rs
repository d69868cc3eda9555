//! Byte-level BPE, and the pre-tokenizers that files name.

use super::super::vocabulary::Vocabulary;
use super::super::{Gguf, Value};
use super::Model;
use fracture_stage::Error;
use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::unicode::NFC;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*",
    r"|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve",
    r"|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s",
    r"|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const DIGIT: &str = r"\p{N}";

/// What `tokenizer.ggml.pre` stands for.
struct Pre {
    /// Each splits the pieces that the one before left.
    patterns: &'static [&'static str],
    /// Words that are tokens as a whole are taken as they are.
    ignore_merges: bool,
    /// A text begins with BOS where the file does not say.
    add_bos: bool,
    /// Spaces before punctuation are taken back.
    clean_up: bool,
    /// Texts are composed (NFC) first, as the models' own tokenizers do.
    composed: bool,
}

impl Pre {
    /// The pre-tokenizer of this name in llama.cpp; `None` for one that is not known.
    fn named(name: &str) -> Option<Self> {
        let plain = |patterns| Self {
            patterns,
            ignore_merges: false,
            add_bos: false,
            clean_up: true,
            composed: false,
        };
        Some(match name {
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "pixtral" => Self {
                ignore_merges: true,
                add_bos: true,
                ..plain(&[LLAMA3])
            },
            "dbrx" | "smaug-bpe" => plain(&[LLAMA3]),
            "qwen2" | "deepseek-r1-qwen" => Self {
                clean_up: false,
                composed: true,
                ..plain(&[QWEN2])
            },
            "stablelm2" | "megrez" => plain(&[QWEN2]),
            "gpt-2" | "phi-2" | "gigachat" | "olmo" | "mpt" | "exaone4" => plain(&[GPT2]),
            "smollm" | "command-r" => Self {
                clean_up: false,
                ..plain(&[DIGIT, GPT2])
            },
            "starcoder" | "refact" | "codeshell" | "exaone" | "minerva-7b" => plain(&[DIGIT, GPT2]),
            "tekken" => Self {
                ignore_merges: true,
                add_bos: true,
                clean_up: false,
                ..plain(&[TEKKEN])
            },
            "gpt-4o" | "llama4" => Self {
                clean_up: false,
                ..plain(&[GPT4O])
            },
            // What llama.cpp falls back to, and what its converter writes for a tokenizer that it does not know.
            "default" => plain(&[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
            _ => return None,
        })
    }
}

pub(super) fn build(gguf: &Gguf, vocabulary: &Vocabulary<'_>) -> Result<Model, Error> {
    const KNOWN: &str = "llama-bpe, qwen2, gpt-2, smollm, tekken, gpt-4o, starcoder, default and others are known";
    let place = gguf.path().display();
    let name = match gguf.header().metadata().get("tokenizer.ggml.pre") {
        Some(Value::Text(name)) => name.as_str(),
        Some(value) => return Err(Error::input(format!("{place}: tokenizer.ggml.pre is {value}, no text"))),
        None => {
            return Err(Error::input(format!("{place}: tokenizer.ggml.pre is missing"))
                .cause("the file does not say how texts are split before they are tokenized")
                .hint("convert the model again with a llama.cpp of May 2024 or later"));
        }
    };
    let pre = Pre::named(name).ok_or_else(|| {
        Error::input(format!("{place}: tokenizer.ggml.pre: `{name}` is not supported"))
            .cause("texts would be split otherwise than the model was trained on")
            .hint(KNOWN)
    })?;
    let merges = gguf.header().texts("tokenizer.ggml.merges")?.ok_or_else(|| {
        Error::input(format!("{place}: tokenizer.ggml.merges is missing")).hint("fetch the file again")
    })?;
    let pairs = merges.iter().map(|merge| {
        // The first of the two may itself begin with a space.
        let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ').map(|(at, _)| at);
        match at {
            Some(at) => Ok((merge[..at].to_owned(), merge[at + 1..].to_owned())),
            None => Err(Error::input(format!(
                "{place}: tokenizer.ggml.merges holds `{merge}`, which is no pair"
            ))),
        }
    });
    let pairs = pairs.collect::<Result<Vec<_>, _>>()?;
    let failed = |cause: tokenizers::Error| {
        Error::input(format!("{place}: its tokenizer cannot be used"))
            .cause(cause)
            .hint("fetch the file again")
    };
    let ids: Vocab = (0..)
        .zip(&vocabulary.tokens)
        .map(|(id, token)| (token.clone(), id))
        .collect();
    let bpe = BPE::builder()
        .vocab_and_merges(ids, pairs)
        .ignore_merges(pre.ignore_merges)
        .build()
        .map_err(failed)?;
    let mut tokenizer = Tokenizer::new(bpe);
    if pre.composed {
        tokenizer.with_normalizer(Some(NFC)).map_err(failed)?;
    }
    let mut steps: Vec<PreTokenizerWrapper> = Vec::new();
    for pattern in pre.patterns {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map_err(failed)?;
        steps.push(split.into());
    }
    steps.push(ByteLevel::new(false, false, false).into());
    tokenizer.with_pre_tokenizer(Some(Sequence::new(steps)));
    tokenizer.with_decoder(Some(ByteLevel::new(false, false, false)));
    Ok(Model {
        tokenizer,
        add_bos: pre.add_bos,
        clean_up: pre.clean_up,
    })
}
