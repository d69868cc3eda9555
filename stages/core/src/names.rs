//! Which known name was probably meant by a mistyped one.

/// Nobody mistypes a longer name; comparing takes time that grows with the product of the lengths.
const LONGEST: usize = 200;

/// Of more known names only the first so many are compared.
const COMPARED: usize = 300;

/// The known name that is nearest to a mistyped one, when one is near enough to be meant. Ties go to the first in the
/// alphabet, so that the answer does not depend on the order of `known`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace('_', "-");
    let wanted = plain(name);
    let allowed = (wanted.chars().count() / 3).max(1);
    let distance = |other: &'a str| (strsim::osa_distance(&wanted, &plain(other)), other);
    let near = |&(distance, other): &(usize, &str)| {
        // A name of one letter that is another letter has nothing in common with it.
        (distance <= allowed && distance < wanted.len().max(other.len()))
            || (wanted.len() >= 4
                && (plain(other).starts_with(&wanted) || wanted.starts_with(&plain(other)) && other.len() >= 4))
    };
    known
        .into_iter()
        .filter(|other| other.len() <= LONGEST)
        .take(COMPARED)
        .map(distance)
        .filter(near)
        .min()
        .map(|(_, other)| other)
}

/// A list for people: `a`, `b` and `c`; long lists are cut.
pub fn listing<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 24;
    let names: Vec<&str> = names.into_iter().collect();
    let quoted: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match quoted.as_slice() {
        [] => "none".to_owned(),
        [only] => only.clone(),
        all if names.len() > SHOWN => format!("{} and {} more", all.join(", "), names.len() - SHOWN),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}

/// What to say about an unknown name: the nearest known one, else all of them.
pub fn suggestion<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, what: &str) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("there are no {what}"),
        None => format!("the {what} are {}", listing(known)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("promts", ["prompts", "answers"]), Some("prompts"));
        assert_eq!(nearest("temprature", ["temperature", "top_p"]), Some("temperature"));
        assert_eq!(nearest("max-new-tokens", ["max_new_tokens"]), Some("max_new_tokens"));
        assert_eq!(nearest("colour", ["color", "x"]), Some("color"));
        assert_eq!(nearest("banana", ["prompts", "answers"]), None);
        assert_eq!(nearest("ab", ["ad", "ac"]), Some("ac"));
        assert_eq!(nearest("b", ["d", "c"]), None);
    }
}
