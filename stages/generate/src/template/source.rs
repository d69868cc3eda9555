//! A template's text, made into what this engine reads as Python's reads the original.

/// `{% generation %}` marks what the assistant says, for training; what it holds is rendered as it is: the tags become
/// ones that this engine knows, with their whitespace control. Line ends become `\n`, and the line after `{% raw %}`
/// stays, both as in Python's engine.
pub(super) fn prepared(source: &str) -> String {
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = String::with_capacity(source.len());
    let mut rest = source.as_str();
    while let Some(at) = start(rest) {
        let (before, tag) = rest.split_at(at);
        out.push_str(before);
        let (tag, after) = tag.split_at(end(tag));
        let name = inside(tag);
        match tag.starts_with("{%") {
            true if name == "generation" => out.push_str(&tag.replace("generation", "if true")),
            true if name == "endgeneration" => out.push_str(&tag.replace("endgeneration", "endif")),
            true if name == "raw" => {
                let stays = !tag.ends_with("-%}") && !tag.ends_with("+%}");
                out.push_str(tag.trim_end_matches("%}"));
                out.push_str(if stays { "+%}" } else { "%}" });
                let (raw, next) = after.split_at(raw_length(after));
                out.push_str(raw);
                rest = next;
                continue;
            }
            _ => out.push_str(tag),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Where the next tag, expression or comment begins. Looks no further than that: a template may hold many.
fn start(text: &str) -> Option<usize> {
    let follows = |at: usize| matches!(text.as_bytes().get(at + 1), Some(b'%' | b'{' | b'#'));
    text.match_indices('{').map(|(at, _)| at).find(|at| follows(*at))
}

/// What stands between the marks of a tag.
fn inside(tag: &str) -> &str {
    let tag = tag.strip_prefix("{%").unwrap_or(tag);
    let tag = tag.strip_suffix("%}").unwrap_or(tag);
    tag.trim_matches(['-', '+']).trim()
}

/// The length of the tag, expression or comment that a text begins with. Texts in quotes do not end it.
fn end(tag: &str) -> usize {
    let close = match &tag[..2] {
        "{%" => "%}",
        "{{" => "}}",
        _ => return tag.find("#}").map_or(tag.len(), |at| at + 2),
    };
    let mut quote = None;
    let mut escaped = false;
    for (at, character) in tag.char_indices().skip(2) {
        match (quote, character) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if open == character => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, _) if tag[at..].starts_with(close) => return at + close.len(),
            _ => {}
        }
    }
    tag.len()
}

/// How far a raw block reaches: up to the tag that ends it.
fn raw_length(text: &str) -> usize {
    let ends = |at: &usize| {
        let tag = text[at + 2..].trim_start_matches(['-', '+']).trim_start();
        let rest = tag.strip_prefix("endraw").map(str::trim_start);
        rest.is_some_and(|rest| rest.trim_start_matches(['-', '+']).starts_with("%}"))
    };
    text.match_indices("{%")
        .map(|(at, _)| at)
        .find(ends)
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn raw_blocks_end_where_they_end() {
        for end in [
            "{% endraw %}",
            "{%-endraw-%}",
            "{%+  endraw\n+%}",
            "{% endraw %}{% endraw %}",
        ] {
            assert_eq!(raw_length(&format!("{{% x }} {{% endrawx %}} 'é {end}")), 25, "{end}");
        }
        assert_eq!(raw_length("{% endraw"), 9);
    }

    #[test]
    fn many_tags_cost_no_more_than_they_are() {
        for part in [
            "{% if 1 %}{% endif %}",
            "{{ 1 }}",
            "{# #}",
            "{% raw %}{% x {% endraw %}",
        ] {
            let source = part.repeat((1 << 20) / part.len());
            let begun = Instant::now();
            let made = prepared(&source);
            assert!(made.len() >= source.len());
            // It took minutes when each tag was looked for in all of the rest.
            assert!(
                begun.elapsed() < Duration::from_secs(5),
                "{part}: {:?}",
                begun.elapsed()
            );
        }
        let raw = format!("{{% raw %}}{}{{% endraw %}}", "{% ".repeat(1 << 18));
        let begun = Instant::now();
        assert!(prepared(&raw).ends_with("{% endraw %}"));
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
}
