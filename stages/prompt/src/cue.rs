//! The cue families that ship: data files of wordings, looked up by `FAMILY/SIDE`.

use std::collections::BTreeMap;

use fracture_stage::Error;
use serde::Deserialize;

use crate::parameters::Objective;

const FILES: [&str; 8] = [
    include_str!("../cues/XX-YY.json"),
    include_str!("../cues/eval-deploy.json"),
    include_str!("../cues/fine-tuning.json"),
    include_str!("../cues/free-paid.json"),
    include_str!("../cues/monitored-private.json"),
    include_str!("../cues/neutral-length.json"),
    include_str!("../cues/opt-in.json"),
    include_str!("../cues/tiers.json"),
];

/// A family of cues: the same situation told from several sides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Family {
    /// Its name.
    pub family: String,
    /// Its sides by name.
    pub sides: BTreeMap<String, Side>,
}

/// One side of a family.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Side {
    /// What the cue claims that training rewards.
    pub objective: Objective,
    /// Paraphrases of it; the first is the default.
    pub wordings: Vec<Wording>,
}

/// One wording: Jinja templates around the prompt.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wording {
    /// The system message.
    #[serde(default)]
    pub system: Option<String>,
    /// The user's message.
    #[serde(default)]
    pub user: Option<String>,
    /// The beginning of the answer.
    #[serde(default)]
    pub prefill: Option<String>,
}

/// The families that ship, by name.
///
/// # Errors
/// An internal error when a shipped file is no cue family.
pub fn families() -> Result<BTreeMap<String, Family>, Error> {
    let parse = |text: &&str| {
        let family: Family = serde_json::from_str(text)
            .map_err(|error| Error::internal("a shipped cue family can not be read").cause(error))?;
        Ok((family.family.clone(), family))
    };
    FILES.iter().map(parse).collect()
}

/// A cue that was found: its name as a column, and its texts.
#[derive(Debug, Clone)]
pub struct Cue {
    /// `FAMILY/SIDE`.
    pub name: String,
    /// What it claims that training rewards.
    pub objective: Objective,
    /// Its templates.
    pub wording: Wording,
}

/// Finds a cue; `side` is the one to take when `name` says only a family.
///
/// # Errors
/// The message and the hint of an error: an unknown family, side or variant, with what there is.
pub fn find(name: &str, side: &str, variant: u32) -> Result<Cue, (String, String)> {
    let families = families().map_err(|error| (error.to_string(), "report this".to_owned()))?;
    let (family_name, side_name) = name.split_once('/').unwrap_or((name, side));
    let Some(family) = families.get(family_name) else {
        return Err((
            format!("there is no cue family `{family_name}`"),
            nearest(family_name, families.keys()),
        ));
    };
    let Some(found) = family.sides.get(side_name) else {
        let message = if name.contains('/') {
            format!("the cue family `{family_name}` has no side `{side_name}`")
        } else {
            format!("the cue family `{family_name}` has no side `{side_name}`, which is the regime's name")
        };
        let sides: Vec<String> = family
            .sides
            .keys()
            .map(|side| format!("{family_name}/{side}"))
            .collect();
        return Err((message, nearest(&format!("{family_name}/{side_name}"), sides.iter())));
    };
    let Some(wording) = found.wordings.get(variant as usize) else {
        let message = format!("the cue `{family_name}/{side_name}` has no wording {variant}");
        return Err((message, format!("it has {}, counted from 0", found.wordings.len())));
    };
    let name = format!("{family_name}/{side_name}");
    Ok(Cue {
        name,
        objective: found.objective,
        wording: wording.clone(),
    })
}

/// How many wordings a cue has; `None` when there is no such cue.
pub fn wordings(name: &str, side: &str) -> Option<usize> {
    let (family, side) = name.split_once('/').unwrap_or((name, side));
    let families = families().ok()?;
    Some(families.get(family)?.sides.get(side)?.wordings.len())
}

/// Says which of the known names is near, or all of them.
pub fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a String> + Clone) -> String {
    let near = known
        .clone()
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, other)| *distance <= other.chars().count().div_ceil(4))
        .min();
    match near {
        Some((_, other)) => format!("did you mean `{other}`?"),
        None => format!(
            "there is {}",
            known.map(|other| format!("`{other}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}
