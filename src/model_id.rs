//! The one spelling of a model's id in a name, which the server stores under and a client looks up.
//!
//! A model's id may hold `/`, which a segment of a name can't: `+` stands for it. Pure functions over text. Must not know
//! resources.

/// Bytes of a segment.
const SEGMENT_BYTES: usize = 128;

/// The model id that a name's last segment stands for: each `+` is a `/`.
#[must_use]
pub fn model_id_of(segment: &str) -> String {
    segment.replace('+', "/")
}

/// The segment of a name for a model id. Where [`model_id_of`] does not lead back to the id, because it holds something
/// that no name can, the id has to be given in the spec.
#[must_use]
pub fn segment_of(model_id: &str) -> String {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "._:@+-".contains(letter);
    let replace = |letter: char| match letter {
        '/' => '+',
        letter if allowed(letter) => letter,
        _ => '-',
    };
    let segment: String = model_id.chars().map(replace).collect();
    let begun = segment.trim_start_matches(|letter: char| !letter.is_ascii_alphanumeric());
    begun.chars().take(SEGMENT_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_models_are_as_the_vectors_have_them() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/routing.json")).unwrap();
        let names = vectors["names"].as_array().unwrap();
        assert!(names.len() >= 8);
        for name in names {
            assert_eq!(segment_of(name["id"].as_str().unwrap()), name["segment"], "{name}");
        }
    }
}
