//! Texts to windows of token ids, as the judge's own tokenizer makes them.

use std::path::Path;

use fracture_stage::Error;
use tokenizers::tokenizer::PostProcessor;
use tokenizers::utils::padding::PaddingDirection;
use tokenizers::utils::truncation::TruncationDirection;
use tokenizers::{Encoding, Tokenizer};

use crate::config::JudgeConfig;
use crate::layout::Layout;

/// Embeddings may be padded to a multiple of this.
const PADDED_TO: u64 = 64;
/// Beyond that, one row in so many may have no token.
const SPARE_SHARE: u64 = 200;

/// What is judged.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Text {
    /// One text.
    One(String),
    /// A prompt and the response to it, for judges that were trained on pairs. The prompt is truncated first.
    Pair {
        /// What was asked.
        prompt: String,
        /// What was answered.
        response: String,
    },
}

/// One input of the model, special tokens included, not padded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Token ids.
    pub ids: Vec<u32>,
    /// The segment of each token, as the tokenizer assigns them.
    pub types: Vec<u32>,
}

/// A text in windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// At least one window.
    pub windows: Vec<Window>,
    /// Whether some token is in no window.
    pub truncated: bool,
}

/// How rows shorter than their shape are filled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Padding {
    /// The id of the padding token.
    pub id: u32,
    /// Its segment.
    pub type_id: u32,
    /// Whether it stands before the text.
    pub left: bool,
}

/// A judge's tokenizer with its limits.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: Tokenizer,
    padding: Padding,
    max_length: usize,
    stride: Option<usize>,
    direction: TruncationDirection,
    doubt: Option<String>,
    shown: String,
}

impl TextEncoder {
    /// Loads the tokenizer of a judge. `max_length` counts special tokens ([`JudgeConfig::max_length`] without one). With
    /// `stride`, a longer text becomes windows that share that many tokens with the next; without, it is truncated.
    ///
    /// # Errors
    /// When the tokenizer can not be read, `max_length` or `stride` leave no room for text, or the tokenizer has ids that the
    /// model's embedding does not.
    pub fn load(
        layout: &Layout,
        config: &JudgeConfig,
        max_length: Option<usize>,
        stride: Option<usize>,
    ) -> Result<Self, Error> {
        let shown = layout.tokenizer.display().to_string();
        let mut tokenizer = Tokenizer::from_file(&layout.tokenizer).map_err(|e| {
            Error::input(format!("{shown} is no tokenizer that can be read"))
                .cause(e)
                .hint("it must be the tokenizer.json of the HF tokenizers library")
        })?;
        fits(&tokenizer, config, layout)?;
        own_tokens(&tokenizer, config, layout)?;
        let padding = padding(&tokenizer, config);
        let doubt = doubt(&tokenizer, config).map(|doubt| format!("{shown}: {doubt}"));
        let cut = tokenizer.get_truncation().cloned();
        let max_length = config.max_length(max_length, cut.as_ref().map(|cut| cut.max_length).filter(|&n| n > 0))?;
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|e| Error::internal("the tokenizer keeps its truncation").cause(e))?;
        let encoder = Self {
            padding,
            max_length,
            stride,
            direction: cut.map_or(TruncationDirection::Right, |cut| cut.direction),
            tokenizer,
            doubt,
            shown,
        };
        let room = max_length.saturating_sub(encoder.added(true));
        if room == 0 {
            return Err(Error::pipeline(format!(
                "max_length: {max_length} leaves no room for text beside special tokens"
            ))
            .parameter(&["max_length"]));
        }
        if let Some(stride) = stride
            && stride >= room
        {
            return Err(
                Error::pipeline(format!("stride: {stride} does not fit windows of {room} tokens"))
                    .hint("stride is how many tokens two neighbouring windows share; 128 is usual for windows of 512")
                    .parameter(&["stride"]),
            );
        }
        Ok(encoder)
    }

    /// The longest window, special tokens included.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Why the tokenizer may not be this judge's, where there is a sign of it that is no proof.
    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }

    /// How rows are padded.
    pub fn padding(&self) -> Padding {
        self.padding
    }

    /// Special tokens that the tokenizer adds to a text or a pair.
    fn added(&self, pair: bool) -> usize {
        self.tokenizer
            .get_post_processor()
            .map_or(0, |processor| processor.added_tokens(pair))
    }

    /// The windows of a text.
    ///
    /// # Errors
    /// When the tokenizer fails, or gives no token at all (an empty text under a tokenizer without special tokens).
    pub fn encode(&self, text: &Text) -> Result<Encoded, Error> {
        let encoded = match text {
            Text::One(text) => self.one(text),
            Text::Pair { prompt, response } => self.pair(prompt, response),
        };
        let encoded = encoded.map_err(|e| Error::task(format!("{} fails on a text", self.shown)).cause(e))?;
        if encoded.windows.iter().any(|window| window.ids.is_empty()) {
            return Err(Error::task(format!("{} gives no token for a text", self.shown)).cause("the text is empty"));
        }
        Ok(encoded)
    }

    fn one(&self, text: &str) -> tokenizers::Result<Encoded> {
        let room = self.max_length - self.added(false);
        let encoding = self.tokenizer.encode_fast(text, false)?;
        let (parts, truncated) = self.cut(encoding, room);
        let windows = parts
            .into_iter()
            .map(|part| self.window(part, None))
            .collect::<tokenizers::Result<_>>()?;
        Ok(Encoded { windows, truncated })
    }

    /// The response keeps what it needs, the prompt gets the rest; windows run over a response that is too long by itself.
    fn pair(&self, prompt: &str, response: &str) -> tokenizers::Result<Encoded> {
        let room = self.max_length - self.added(true);
        let mut prompt = self.tokenizer.encode_fast(prompt, false)?;
        let response = self.tokenizer.encode_fast(response, false)?;
        let left = room.saturating_sub(response.len());
        let shortened = prompt.len() > left;
        if shortened {
            prompt.truncate(left, 0, self.direction);
            prompt.take_overflowing();
        }
        let (parts, truncated) = self.cut(response, room);
        let windows = parts
            .into_iter()
            .map(|mut part| {
                part.set_type_ids(vec![1; part.len()]);
                self.window(prompt.clone(), Some(part))
            })
            .collect::<tokenizers::Result<_>>()?;
        Ok(Encoded {
            windows,
            truncated: truncated || shortened,
        })
    }

    /// Windows of at most `room` tokens; without a stride the first alone, and whether the rest was dropped.
    fn cut(&self, mut encoding: Encoding, room: usize) -> (Vec<Encoding>, bool) {
        if encoding.len() <= room {
            return (vec![encoding], false);
        }
        encoding.truncate(room, self.stride.unwrap_or(0), self.direction);
        let rest = encoding.take_overflowing();
        match self.stride {
            Some(_) => (std::iter::once(encoding).chain(rest).collect(), false),
            None => (vec![encoding], true),
        }
    }

    fn window(&self, first: Encoding, second: Option<Encoding>) -> tokenizers::Result<Window> {
        let whole = self.tokenizer.post_process(first, second, true)?;
        Ok(Window {
            ids: whole.get_ids().to_vec(),
            types: whole.get_type_ids().to_vec(),
        })
    }
}

/// Every id of the tokenizer must be a row of the model's embedding: the graph's own table counts, else `vocab_size`. A
/// tokenizer that is much smaller belongs to another model too, although its ids happen to fit.
fn fits(tokenizer: &Tokenizer, config: &JudgeConfig, layout: &Layout) -> Result<(), Error> {
    let (rows, source): (u64, &Path) = match (layout.graph.vocabulary, config.vocabulary) {
        (Some(rows), _) => (rows, &layout.model),
        (None, Some(rows)) => (rows, &layout.config),
        (None, None) => return Ok(()),
    };
    let last = tokenizer
        .get_vocab(true)
        .into_iter()
        .map(|(token, id)| (id, token))
        .max();
    let Some((id, token)) = last else { return Ok(()) };
    let refused = |cause: String| {
        Error::input(format!("{} does not fit the model", layout.tokenizer.display()))
            .cause(cause)
            .hint("take tokenizer.json and the model from one export")
    };
    let (id, source) = (u64::from(id), source.display());
    if id >= rows {
        return Err(refused(format!(
            "the token `{token}` has the id {id}, and {source} has {rows} rows of tokens"
        )));
    }
    // Embeddings are padded to a multiple for speed, and some models keep a few rows for later.
    let (tokens, spare) = (id + 1, rows - id - 1);
    if tokens.next_multiple_of(PADDED_TO) < rows && spare * SPARE_SHARE > rows {
        return Err(refused(format!(
            "it has {tokens} tokens, and {source} has {rows} rows of tokens"
        )));
    }
    Ok(())
}

/// The tokens that `tokenizer_config.json` lists must have their ids in `tokenizer.json`: the two are written together, so a
/// tokenizer of another model in this folder shows here, although its ids fit.
fn own_tokens(tokenizer: &Tokenizer, config: &JudgeConfig, layout: &Layout) -> Result<(), Error> {
    let wrong = |(id, text): &&(u32, String)| tokenizer.id_to_token(*id).is_some_and(|found| found != *text);
    let Some((id, text)) = config.added_tokens.iter().find(wrong) else {
        return Ok(());
    };
    let found = tokenizer.id_to_token(*id).unwrap_or_default();
    let beside = layout
        .tokenizer_config
        .as_deref()
        .unwrap_or(Path::new("tokenizer_config.json"));
    Err(Error::input(format!(
        "{} is not the tokenizer of this judge",
        layout.tokenizer.display()
    ))
    .cause(format!(
        "its id {id} is `{found}`, and {} says `{text}`",
        beside.display()
    ))
    .hint("take tokenizer.json, tokenizer_config.json and the model from one export"))
}

/// Why the tokenizer may belong to another model, although nothing contradicts it: the padding that the model was trained
/// with is another token's id here.
fn doubt(tokenizer: &Tokenizer, config: &JudgeConfig) -> Option<String> {
    let named = config
        .pad_token
        .as_deref()
        .and_then(|token| tokenizer.token_to_id(token));
    let own = named.or_else(|| tokenizer.get_padding().map(|padding| padding.pad_id))?;
    let said = config.pad_id.filter(|said| *said != own)?;
    let token = tokenizer.id_to_token(said).unwrap_or_default();
    Some(format!(
        "config.json pads with id {said} (`{token}`) and the tokenizer with id {own}: they may be of two models"
    ))
}

/// The padding that the model was exported with: the configuration's id, else the tokenizer's own, else its padding token.
fn padding(tokenizer: &Tokenizer, config: &JudgeConfig) -> Padding {
    let own = tokenizer.get_padding();
    let named = config
        .pad_token
        .as_deref()
        .and_then(|token| tokenizer.token_to_id(token));
    let usual = || ["[PAD]", "<pad>"].iter().find_map(|token| tokenizer.token_to_id(token));
    let id = config
        .pad_id
        .or(own.map(|p| p.pad_id))
        .or(named)
        .or_else(usual)
        .unwrap_or(0);
    let left = own
        .map(|p| matches!(p.direction, PaddingDirection::Left))
        .or(config.pad_left)
        .unwrap_or(false);
    Padding {
        id,
        type_id: own.map_or(0, |p| p.pad_type_id),
        left,
    }
}

#[cfg(test)]
mod tests;
