//! Rotary position embeddings and the ways in which checkpoints stretch them.
//!
//! Formulas as in `transformers`' `modeling_rope_utils`: linear interpolation, Llama 3's smoothed bands, YaRN
//! (Peng et al., arXiv 2309.00071) and LongRoPE (Ding et al., arXiv 2402.13753, within the original context).

use super::Family;
use super::fields::Fields;
use fracture_stage::Error;
use std::f64::consts::PI;

/// A rotary embedding: dimension `i` of the first half turns with dimension `i + half` by `position · frequency[i]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// One frequency for each pair, in radians a position; half as many as dimensions that turn.
    pub frequencies: Vec<f32>,
    /// What cosine and sine are multiplied by.
    pub amplitude: f32,
}

/// How frequencies are stretched for contexts longer than the one trained on.
#[derive(Debug, Clone, PartialEq)]
pub enum Scaling {
    /// As trained.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Low frequencies divided, high ones kept, those between blended.
    Llama3 {
        /// The divisor.
        factor: f64,
        /// Original context over this is the wavelength above which frequencies are divided.
        low: f64,
        /// Original context over this is the wavelength below which frequencies are kept.
        high: f64,
        /// The context trained on.
        original: f64,
    },
    /// A linear ramp over dimensions between kept and divided frequencies, with a temperature on attention.
    Yarn {
        /// The divisor.
        factor: f64,
        /// Rotations within the original context above which a dimension is kept.
        beta_fast: f64,
        /// Rotations below which a dimension is divided.
        beta_slow: f64,
        /// The context trained on.
        original: f64,
        /// Round the ends of the ramp outwards to whole dimensions.
        truncate: bool,
        /// What cosine and sine are multiplied by.
        amplitude: f64,
    },
    /// A divisor for each pair (the short list: sequences within the original context).
    Long {
        /// One divisor a pair.
        factors: Vec<f64>,
        /// What cosine and sine are multiplied by.
        amplitude: f64,
    },
}

impl Rope {
    /// The embedding of `dimensions` dimensions at base `theta`.
    pub fn new(theta: f64, dimensions: usize, scaling: &Scaling) -> Self {
        let base = |i: usize| 1.0 / libm::pow(theta, (2 * i) as f64 / dimensions as f64);
        let half = dimensions / 2;
        let (frequencies, amplitude): (Vec<f64>, f64) = match scaling {
            Scaling::None => ((0..half).map(base).collect(), 1.0),
            Scaling::Linear { factor } => ((0..half).map(|i| base(i) / factor).collect(), 1.0),
            Scaling::Llama3 {
                factor,
                low,
                high,
                original,
            } => {
                let stretch = |frequency: f64| {
                    let rotations = original * frequency / (2.0 * PI);
                    let smooth = ((rotations - low) / (high - low)).clamp(0.0, 1.0);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                };
                ((0..half).map(|i| stretch(base(i))).collect(), 1.0)
            }
            Scaling::Yarn {
                factor,
                beta_fast,
                beta_slow,
                original,
                truncate,
                amplitude,
            } => {
                let dimension = |rotations: f64| {
                    dimensions as f64 * libm::log(original / (rotations * 2.0 * PI)) / (2.0 * libm::log(theta))
                };
                let (mut from, mut to) = (dimension(*beta_fast), dimension(*beta_slow));
                if *truncate {
                    (from, to) = (from.floor(), to.ceil());
                }
                let from = from.max(0.0);
                let mut to = to.min(dimensions as f64 - 1.0);
                if from == to {
                    to += 0.001;
                }
                let stretch = |i: usize| {
                    let ramp = ((i as f64 - from) / (to - from)).clamp(0.0, 1.0);
                    base(i) / factor * ramp + base(i) * (1.0 - ramp)
                };
                ((0..half).map(stretch).collect(), *amplitude)
            }
            Scaling::Long { factors, amplitude } => ((0..half).map(|i| base(i) / factors[i]).collect(), *amplitude),
        };
        Self {
            frequencies: frequencies.into_iter().map(|f| f as f32).collect(),
            amplitude: amplitude as f32,
        }
    }

    /// Cosines and sines of one position, one a pair. The angle is rounded to `f32`, as the reference does.
    pub(crate) fn angles(&self, position: usize, cosines: &mut [f32], sines: &mut [f32]) {
        for ((frequency, cosine), sine) in self.frequencies.iter().zip(cosines).zip(sines) {
            let (sin, cos) = libm::sincos(f64::from(position as f32 * frequency));
            *cosine = cos as f32 * self.amplitude;
            *sine = sin as f32 * self.amplitude;
        }
    }
}

/// The embeddings of a model (Gemma 3 has a second one for its windows), and the context they allow.
///
/// Two spellings are read: `rope_theta` and `rope_scaling`, and `rope_parameters`, which holds both and, for Gemma 3, one
/// set for each type of layer.
pub(super) fn read(
    fields: &Fields<'_>,
    family: Family,
    head_dim: usize,
    context: usize,
) -> Result<(Vec<Rope>, usize), Error> {
    let (parameters, scaling) = (fields.object("rope_parameters")?, fields.object("rope_scaling")?);
    if parameters.is_some() && scaling.is_some() {
        return Err(fields.unsupported("rope_scaling", "a set beside rope_parameters"));
    }
    let theta = match family {
        Family::Mixtral | Family::Gemma3 => 1e6,
        _ => 1e4,
    };
    let model = Model {
        fields,
        family,
        head_dim,
        context,
    };
    let local = |set: Option<&Fields<'_>>| model.rope(set, "rope_local_base_freq", 1e4);
    if let Some(sets) = parameters.as_ref().filter(|sets| nested(sets)) {
        if family != Family::Gemma3 {
            return Err(fields.unsupported("rope_parameters", "one set for each type of layer"));
        }
        if let Some(other) = sets.names().find(|name| !LAYER_TYPES.contains(name)) {
            return Err(fields.unsupported("rope_parameters", other));
        }
        let (full, sliding) = (sets.object(LAYER_TYPES[0])?, sets.object(LAYER_TYPES[1])?);
        let (global, context) = model.rope(full.as_ref(), "rope_theta", theta)?;
        return Ok((vec![global, local(sliding.as_ref())?.0], context));
    }
    let (global, context) = model.rope(parameters.as_ref().or(scaling.as_ref()), "rope_theta", theta)?;
    let mut ropes = vec![global];
    if family == Family::Gemma3 {
        ropes.push(local(None)?.0);
    }
    Ok((ropes, context))
}

/// The types of layers that may have a set of their own: those that see all, those that look through a window.
const LAYER_TYPES: [&str; 2] = ["full_attention", "sliding_attention"];

fn nested(sets: &Fields<'_>) -> bool {
    LAYER_TYPES.iter().any(|name| sets.has(name))
}

/// What an embedding follows from, besides its own parameters.
struct Model<'a> {
    fields: &'a Fields<'a>,
    family: Family,
    head_dim: usize,
    context: usize,
}

impl Model<'_> {
    /// One embedding from its set of parameters, and the context it allows. The base stands in the set or, by the name
    /// `base`, in the configuration.
    fn rope(&self, set: Option<&Fields<'_>>, base: &str, default: f64) -> Result<(Rope, usize), Error> {
        let fields = self.fields;
        let own = set.map_or(Ok(None), |set| set.maybe_number("rope_theta"))?;
        let theta = match own {
            Some(theta) => theta,
            None => fields.number_or(base, default)?,
        };
        if theta <= 0.0 {
            return Err(fields.unsupported(base, &theta.to_string()));
        }
        let dimensions = self.rotated(set)?;
        let Some(set) = set else {
            return Ok((Rope::new(theta, dimensions, &Scaling::None), self.context));
        };
        let kind = match set.text("rope_type")? {
            Some(kind) => Some(kind),
            None => set.text("type")?,
        };
        // Phi-3 was first published with other names for its way.
        let kind = match (self.family, kind.as_deref()) {
            (Family::Phi3, Some("yarn" | "su")) => Some("longrope"),
            (_, kind) => kind,
        };
        let (scaling, context, keys) = self.scaling(set, kind, dimensions)?;
        for name in set.names() {
            if !keys.contains(&name) && !["rope_type", "type", "rope_theta", "partial_rotary_factor"].contains(&name) {
                return Err(fields.unsupported("rope_scaling", name));
            }
        }
        Ok((Rope::new(theta, dimensions, &scaling), context))
    }

    /// The way in which a set stretches, the context it allows and the parameters that it has.
    fn scaling(
        &self,
        set: &Fields<'_>,
        kind: Option<&str>,
        dimensions: usize,
    ) -> Result<(Scaling, usize, &'static [&'static str]), Error> {
        let context = self.context;
        Ok(match kind {
            // A configuration that went through `transformers` may carry the context trained on.
            Some("default") | None => (Scaling::None, context, &["original_max_position_embeddings"]),
            Some("linear") => {
                let factor = positive(set, "factor")?;
                (Scaling::Linear { factor }, context, &["factor"])
            }
            // Its base grows with sequences beyond `max_position_embeddings`, which is as long as they get here.
            Some("dynamic") => {
                positive(set, "factor")?;
                (Scaling::None, context, &["factor"])
            }
            Some("llama3") => (llama3(set)?, context, LLAMA3),
            Some("yarn") => (yarn(set, context)?, context, YARN),
            Some("longrope" | "su") => {
                let (long, context) = self.long(set, dimensions)?;
                (long, context, LONG)
            }
            Some(other) => {
                return Err(self
                    .fields
                    .unsupported("rope_scaling.rope_type", other)
                    .hint("linear, dynamic, llama3, yarn and longrope are supported"));
            }
        })
    }

    /// How many dimensions of a head turn.
    fn rotated(&self, set: Option<&Fields<'_>>) -> Result<usize, Error> {
        let own = set.map_or(Ok(None), |set| set.maybe_number("partial_rotary_factor"))?;
        let share = match own {
            Some(share) => share,
            None => self.fields.number_or("partial_rotary_factor", 1.0)?,
        };
        let dimensions = (self.head_dim as f64 * share) as usize;
        let whole = share == 1.0 || self.family == Family::Phi3;
        if !whole || dimensions == 0 || dimensions > self.head_dim || !dimensions.is_multiple_of(2) {
            return Err(self.fields.unsupported("partial_rotary_factor", &share.to_string()));
        }
        Ok(dimensions)
    }

    /// LongRoPE switches to other divisors beyond the original context, which would change the keys already cached: the
    /// context is held to the original one.
    fn long(&self, set: &Fields<'_>, dimensions: usize) -> Result<(Scaling, usize), Error> {
        let (all, name) = (self.fields, "original_max_position_embeddings");
        let original = match all.maybe_count(name)? {
            Some(original) => original,
            None if self.family == Family::Phi3 => 4096,
            None => set.maybe_count(name)?.unwrap_or(self.context),
        };
        let divisors = |name: &str| -> Result<Vec<f64>, Error> {
            let list: Option<Vec<f64>> = set
                .get(name)
                .and_then(|list| list.as_array()?.iter().map(serde_json::Value::as_f64).collect());
            match list {
                Some(list) if list.len() == dimensions / 2 && list.iter().all(|f| *f > 0.0) => Ok(list),
                _ => Err(all.unsupported(&format!("rope_scaling.{name}"), "another list than one divisor a pair")),
            }
        };
        divisors("long_factor")?;
        let ratio = self.context as f64 / original as f64;
        let factor = match self.family {
            Family::Phi3 => ratio,
            _ => set.number_or("factor", ratio)?,
        };
        let amplitude = match set.maybe_number("attention_factor")? {
            Some(given) => given,
            None if factor <= 1.0 => 1.0,
            None => libm::sqrt(1.0 + libm::log(factor) / libm::log(original as f64)),
        };
        let factors = divisors("short_factor")?;
        Ok((Scaling::Long { factors, amplitude }, self.context.min(original)))
    }
}

const LLAMA3: &[&str] = &[
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
];
const YARN: &[&str] = &[
    "factor",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "original_max_position_embeddings",
    "truncate",
];
const LONG: &[&str] = &[
    "long_factor",
    "short_factor",
    "factor",
    "attention_factor",
    "original_max_position_embeddings",
];

fn positive(fields: &Fields<'_>, name: &str) -> Result<f64, Error> {
    match fields.number(name)? {
        value if value > 0.0 => Ok(value),
        value => Err(fields.unsupported(&format!("rope_scaling.{name}"), &value.to_string())),
    }
}

fn llama3(fields: &Fields<'_>) -> Result<Scaling, Error> {
    let (low, high) = (
        positive(fields, "low_freq_factor")?,
        positive(fields, "high_freq_factor")?,
    );
    if low >= high {
        return Err(fields.unsupported("rope_scaling.high_freq_factor", "a value not above low_freq_factor"));
    }
    let original = positive(fields, "original_max_position_embeddings")?;
    Ok(Scaling::Llama3 {
        factor: positive(fields, "factor")?,
        low,
        high,
        original,
    })
}

fn yarn(fields: &Fields<'_>, context: usize) -> Result<Scaling, Error> {
    let factor = positive(fields, "factor")?;
    let temperature = |m: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * m * libm::log(factor) + 1.0
        }
    };
    let nonzero = |name| Ok::<_, Error>(fields.maybe_number(name)?.filter(|value| *value != 0.0));
    let amplitude = match (
        fields.maybe_number("attention_factor")?,
        nonzero("mscale")?,
        nonzero("mscale_all_dim")?,
    ) {
        (Some(given), _, _) => given,
        (None, Some(one), Some(all)) => temperature(one) / temperature(all),
        _ => temperature(1.0),
    };
    Ok(Scaling::Yarn {
        factor,
        beta_fast: nonzero("beta_fast")?.unwrap_or(32.0),
        beta_slow: nonzero("beta_slow")?.unwrap_or(1.0),
        original: nonzero("original_max_position_embeddings")?.unwrap_or(context as f64),
        truncate: fields.flag_or("truncate", true)?,
        amplitude,
    })
}
